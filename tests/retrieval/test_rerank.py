"""The second stage: a real small cross-encoder, and rerankers made by hand where the order or the time matters."""

from __future__ import annotations

import json
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from include.collection_file import Retrieval
from include.embedding import models
from include.errors import BadConfiguration, ServiceUnavailable
from include.indexing.estimate import host
from include.retrieval import cross_encoder
from include.retrieval.budget import PROBE
from include.retrieval.cross_encoder import CrossEncoderReranker
from include.retrieval.rerank import open_reranker
from include.retrieval.stage import second_stage, warm
from include.retrieval.turns import Turns
from include.store import reranking_rates
from include.store.pool import open_pool
from include.store.search import Hit
from tests.support import query

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from include.config import Settings
    from include.retrieval.rerank import FirstStage

QUESTION = "where do otters sleep?"
TEXTS = [
    "Otters sleep afloat.",
    "The river is long and cold, and nobody knows how old it is. " * 30,
    "x",
    "Badgers dig setts in dry ground; otters live in holts by the water, where they sleep by day. " * 4,
    "Bread is baked at night.",
]


def _save(folder: Path, labels: int) -> Path:
    """The packaged encoder with a head for pairs whose weights are random, and always the same."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(5)
    source = models.find_model("all-MiniLM-L6-v2")
    AutoModelForSequenceClassification.from_pretrained(source, num_labels=labels).save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _save(tmp_path_factory.mktemp("reranker"), 1)


class Overlap:
    """Counts the question's words; takes its time."""

    name, weight = "overlap", None

    def __init__(self, fingerprint: str, seconds: float = 0.0) -> None:
        self.fingerprint, self.seconds, self.calls = fingerprint, seconds, list[int]()
        self.found: list[Sequence[FirstStage] | None] = []
        self._busy = threading.Lock()

    def score(self, query: str, texts: Sequence[str], found: Sequence[FirstStage] | None = None) -> list[float]:
        assert self._busy.acquire(blocking=False), "two searches at once"
        time.sleep(self.seconds * len(texts))
        self._busy.release()
        self.calls.append(len(texts))
        self.found.append(found)
        return [float(len(set(query.split()) & set(text.split()))) for text in texts]


def _hits(count: int) -> list[Hit]:
    """The later, the more words of the question."""
    words = [f"w{n}" for n in range(count)]
    return [Hit(str(n), 0, 0, 1, " ".join(words[: n + 1]), 1 - n / count, {}) for n in range(count)]


def _ask(count: int) -> str:
    return " ".join(f"w{n}" for n in range(count))


def _stage(settings: Settings, reranker: Overlap, *, count: int = 30, spent: float = 0.0, **options: Any) -> tuple[str, Any]:
    """The order of the first hits, and what the passport says."""
    demanded, top_k = options.pop("demanded", False), options.pop("top_k", 10)
    retrieval = Retrieval(**{"rerank_weight": 1.0, **options})
    with open_pool(settings) as pool:
        hits, passport, seconds = second_stage(
            _ask(count), _hits(count), retrieval, reranker, pool, spent, top_k, demanded=demanded
        )
    assert seconds >= 0
    return " ".join(hit.document for hit in hits), passport["reranker"]


def test_scores_are_the_models(model: Path, settings: Settings) -> None:
    """Each pair alone through transformers, cut at the window, in the order of the texts."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    raw, tokenizer = AutoModelForSequenceClassification.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    raw.eval()
    with torch.no_grad():
        tokens = [tokenizer(QUESTION, t, return_tensors="pt", truncation="longest_first", max_length=512) for t in TEXTS]
        expected = [torch.sigmoid(raw(**one).logits)[0, 0].item() for one in tokens]
    reranker = open_reranker(str(model), settings)
    assert reranker is not None
    assert reranker.score(QUESTION, TEXTS) == pytest.approx(expected, abs=1e-5)
    assert len({round(score, 6) for score in expected}) == len(TEXTS)
    assert reranker.score(QUESTION, []) == []
    assert open_reranker(str(model), settings) is reranker


def test_a_model_in_half_precision_reads_in_single(model: Path, tmp_path: Path) -> None:
    """As its fingerprint says."""
    from transformers import AutoModelForSequenceClassification

    shutil.copytree(model, tmp_path / "half")
    AutoModelForSequenceClassification.from_pretrained(model).half().save_pretrained(tmp_path / "half")
    reranker = CrossEncoderReranker(str(tmp_path / "half"))
    assert ":fp32:" in reranker.fingerprint
    loaded = cross_encoder._load(tmp_path / "half", reranker._window)
    assert {str(parameter.dtype) for parameter in loaded.parameters()} == {"torch.float32"}


def test_threads_get_what_one_gets(model: Path) -> None:
    reranker = CrossEncoderReranker(str(model))
    short = [text[: 20 * n + 20] for n, text in enumerate(TEXTS)]
    expected = reranker.score(QUESTION, short)
    with ThreadPoolExecutor(8) as threads:
        for scores in threads.map(lambda n: reranker.score(QUESTION, short[n % 5 :]), range(24), timeout=60):
            assert scores == pytest.approx(expected[-len(scores) :], abs=1e-5)


def test_fingerprint_follows_every_file_that_changes_a_score(model: Path, tmp_path: Path) -> None:
    original = CrossEncoderReranker(str(model)).fingerprint
    changed = {}
    for name in ("same", "window", "head"):
        folder = tmp_path / name
        shutil.copytree(model, folder)
        changed[name] = folder
    config = json.loads((changed["window"] / "config.json").read_text())
    (changed["window"] / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 256}))
    with (changed["head"] / "model.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\x01\x02\x03\x04")
    assert [CrossEncoderReranker(str(folder)).fingerprint == original for folder in changed.values()] == [True, False, False]
    assert CrossEncoderReranker(str(changed["window"])).fingerprint.endswith(":256")


def test_models_that_are_none(tmp_path: Path, settings: Settings) -> None:
    """Also an embedder: loaded as a cross-encoder it would get a head of random weights."""
    with pytest.raises(BadConfiguration, match=r"retrieval.reranker .*does not exist"):
        open_reranker(str(tmp_path / "nowhere"), settings)
    with pytest.raises(ServiceUnavailable, match=r"retrieval.reranker .*hub cannot be reached"):
        open_reranker("nobody/nothing", settings)
    with pytest.raises(BadConfiguration, match="it is no cross-encoder: its architecture is BertModel"):
        open_reranker("all-MiniLM-L6-v2", settings)
    two = open_reranker(str(_save(tmp_path / "two", 2)), settings)
    assert two is not None
    with pytest.raises(BadConfiguration, match="it gives 2 scores a pair"):
        two.score(QUESTION, TEXTS)


def test_no_champion_yet(settings: Settings) -> None:
    with open_pool(settings) as pool:
        assert open_reranker("champion", settings, pool, "handbook") is None
    with pytest.raises(ValueError, match="of which collection"):
        open_reranker("champion", settings)


def test_order(settings: Settings) -> None:
    reranker = Overlap("order:1")
    order, part = _stage(settings, reranker, count=12, rerank_candidates=8, top_k=12)
    assert order == "7 6 5 4 3 2 1 0 8 9 10 11"
    assert part == {"model": "overlap", "fingerprint": "order:1", "candidates": 8, "weight": 1.0}
    assert _stage(settings, reranker, count=12, rerank_weight=0.0)[0] == "0 1 2 3 4 5 6 7 8 9"
    with open_pool(settings) as pool:
        hits, passport, _ = second_stage("w1", _hits(5), Retrieval(), None, pool, 0.0, 3)
    assert (hits, passport) == (_hits(5)[:3], {"reranker": None})


def test_a_slow_machine_reads_fewer(settings: Settings) -> None:
    """The first search measures by a few, the next one knows; both keep the budget."""
    reranker = Overlap("slow:1", seconds=0.02)
    warm(reranker)
    reranker.calls.clear()
    for _ in range(2):
        _, part = _stage(settings, reranker, latency_budget_ms=400)
        assert PROBE < part["candidates"] < 20
        assert part["reason"].startswith("latency budget: ")
    assert reranker.calls[0] == PROBE
    assert len(reranker.calls) == 3
    (row,) = query(settings, "select host, seconds / pairs from ragworks.reranking_rate where reranker = 'slow:1'")
    assert row[0] == host()
    assert 0.02 <= row[1] < 0.06


def test_no_time_left(settings: Settings) -> None:
    reranker = Overlap("late:1")
    order, part = _stage(settings, reranker, spent=0.6, latency_budget_ms=500)
    assert order == "0 1 2 3 4 5 6 7 8 9"
    assert part["candidates"] == 0
    assert part["reason"] == "latency budget: 600 of 500 ms were spent"
    assert reranker.calls == []
    order, part = _stage(settings, reranker, spent=0.6, latency_budget_ms=500, demanded=True)
    assert (order, part["candidates"]) == ("9 8 7 6 5 4 3 2 1 0", 10)
    one = _stage(settings, reranker, count=1)[1]
    assert (one["candidates"], one["reason"]) == (0, "1 of at least 2 candidates to compare")


def test_loading_is_not_measured(settings: Settings) -> None:
    class Loading(Overlap):
        def score(self, query: str, texts: Sequence[str], found: Sequence[FirstStage] | None = None) -> list[float]:
            time.sleep(0 if self.calls else 0.5)
            return super().score(query, texts, found)

    assert _stage(settings, Loading("loading:1"), latency_budget_ms=300)[1]["candidates"] == 30
    ((rate,),) = query(settings, "select seconds / pairs from ragworks.reranking_rate where reranker = 'loading:1'")
    assert rate < 0.01


def test_searches_that_wait_read_less_or_nothing(settings: Settings) -> None:
    """Ten at once, of which the first take all the time there is: nobody is late, and somebody is read."""
    reranker, budget = Overlap("queue:1", seconds=0.02), 0.4
    retrieval = Retrieval(rerank_weight=1.0, latency_budget_ms=int(budget * 1000))
    _stage(settings, reranker)
    with open_pool(settings, max_size=10) as pool, ThreadPoolExecutor(10) as threads:
        pool.wait()
        asked = [threads.submit(second_stage, _ask(30), _hits(30), retrieval, reranker, pool, 0.0, 10) for _ in range(10)]
        found = [one.result(60) for one in asked]
    read = sorted(passport["reranker"]["candidates"] for _, passport, _ in found)
    assert read[0] == 0
    assert read[-1] >= 10
    assert sum(read) * 0.02 <= budget
    assert max(seconds for _, _, seconds in found) < 4 * budget  # ten that read as much as one would take 7 budgets
    assert any("are ahead" in passport["reranker"].get("reason", "") for _, passport, _ in found)


def test_turns_are_free_again_after_a_failure() -> None:
    turns, seen = Turns(), list[int]()

    def decide(ahead: int) -> int:
        seen.append(ahead)
        return 5

    def fail(count: int) -> None:
        raise ValueError(count)

    for _ in range(2):
        with pytest.raises(ValueError, match="5"):
            turns.take(decide, fail)
    assert seen == [0, 0]


def test_rates_follow_the_machine(settings: Settings) -> None:
    with open_pool(settings) as pool, pool.connection() as connection:

        def save(pairs: int, seconds: float) -> float:
            reranking_rates.save_rate(connection, "here", "r", pairs, seconds)
            return reranking_rates.seconds_per_pair(connection, "here", "r") or 0

        assert reranking_rates.seconds_per_pair(connection, "here", "r") is None
        assert save(10, 0.1) == pytest.approx(0.01)
        assert all(save(3, 0.03) == pytest.approx(0.01) for _ in range(40))  # steady, whatever is rounded
        rates = [save(10, 1.0) for _ in range(30)]
        assert rates == sorted(rates)
        assert rates[6] > 0.05
        assert rates[-1] == pytest.approx(0.1, rel=0.1)
        connection.execute("update ragworks.reranking_rate set measured_at = now() - interval '1 hour'")
        assert reranking_rates.seconds_per_pair(connection, "here", "r") is None
        assert save(10, 0.1) == pytest.approx(0.01)  # what was known then does not count any more
        assert reranking_rates.seconds_per_pair(connection, "elsewhere", "r") is None


def test_a_reranker_that_gives_no_numbers(settings: Settings) -> None:
    class Broken(Overlap):
        def score(self, query: str, texts: Sequence[str], found: Sequence[FirstStage] | None = None) -> list[float]:
            return [float("nan")] * len(texts)

    with pytest.raises(BadConfiguration, match="reranker overlap: it gave 4 scores for 4 texts, or some that are no numbers"):
        _stage(settings, Broken("broken:1"))


def test_the_real_model_through_the_stage(model: Path, settings: Settings) -> None:
    reranker = open_reranker(str(model), settings)
    assert reranker is not None
    hits = [Hit(str(n), 0, 0, 1, text[:100], 1 - n / 10, {}) for n, text in enumerate(TEXTS)]
    with open_pool(settings) as pool:
        retrieval = Retrieval(rerank_weight=1.0, latency_budget_ms=60_000)
        found, passport, _ = second_stage(QUESTION, hits, retrieval, reranker, pool, 0.0, 5)
    scores = reranker.score(QUESTION, [text[:100] for text in TEXTS])
    assert [hit.document for hit in found] == [str(n) for n in sorted(range(5), key=lambda n: -scores[n])]
    assert passport["reranker"]["candidates"] == 5
    assert passport["reranker"]["fingerprint"] == reranker.fingerprint

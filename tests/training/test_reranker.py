"""The cross-encoder: real trainings of a few steps, from two layers of the packaged encoder, on texts of a few words."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from include.embedding import models
from include.errors import BadConfiguration, BadData
from include.progress import Silent
from include.registry.artifacts import local_model, read_manifest
from include.retrieval.cross_encoder import has_head
from include.retrieval.rerank import open_reranker
from include.store.datasets import Negative, Pair
from include.store.golden import GoldenQuery, GoldenSpan
from include.store.pool import open_pool
from include.store.search import Hit
from include.training.arguments import RerankerArguments
from include.training.lists import ranked_lists
from include.training.reranker import open_base
from include.training.two_stage import Candidates, judge, questions_of, score_with
from tests.training import phrases

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from include.config import Settings
    from include.store.pool import Pool

FEW = {
    "max_steps": 4,
    "batch_size": 4,
    "negatives": 2,
    "max_length": 64,
    "rerank_candidates": 5,
    "dev_questions": 6,
    "log_steps": 1,
}


@pytest.fixture
def pool(settings: Settings) -> Iterator[Pool]:
    with open_pool(settings) as pool:
        yield pool


@pytest.fixture
def pairs(settings: Settings, documents: Path, collection: Callable[..., str]) -> list[Pair]:
    return phrases.collection_of(settings, documents, collection, 30)


def _pair(query: str, right: str, *wrong: str, label: float = 1.0) -> Pair:
    negatives = tuple(Negative("n", 0, len(text), text) for text in wrong)
    return Pair(query, "d", 0, len(right), right, label=label, negatives=negatives)


def _candidates(*found: tuple[str, list[str]]) -> list[Candidates]:
    """Questions with the document that answers, and the documents that the first stage finds, best first."""
    made = []
    for right, documents in found:
        hits = tuple(Hit(uri, 0, 0, 1, uri, 1 - n / 10, {}) for n, uri in enumerate(documents))
        made.append(
            Candidates(GoldenQuery(right, (GoldenSpan(right),)), hits, tuple({"rank": n} for n in range(1, len(hits) + 1)))
        )
    return made


def test_lists_hold_one_right_passage_first() -> None:
    """Never one that is right for the same question, whoever mined it; those that people judged wrong count too."""
    rows = [
        _pair("q", "right", "wrong", "also right", "bad"),
        _pair("q", "also right", "bad"),
        _pair("q", "judged wrong", label=0.0),
        _pair("alone", "right"),
    ]
    lists = ranked_lists(rows, 5, seed=0)
    assert [(one.query, one.texts) for one in lists] == [
        ("q", ("right", "wrong", "bad", "judged wrong")),
        ("q", ("also right", "bad", "judged wrong")),
    ]
    assert lists[1].labels == (1.0, 0.0, 0.0)
    many = [_pair("q", "right", *(f"wrong {n}" for n in range(9)))]
    drawn = [ranked_lists(many, 3, seed=seed)[0].texts for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert {len(texts) for texts in drawn} == {4}


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([], "there are none"),
        ([_pair("q", "right"), _pair("r", "right")], "each is right, none has a negative"),
        ([_pair("q", "wrong", "wrong too", label=0.0)], "each is wrong, none is right"),
    ],
)
def test_all_labels_alike(rows: list[Pair], why: str) -> None:
    with pytest.raises(BadData, match=f"{len(rows)} training pairs: all labels are alike: {why}"):
        ranked_lists(rows, 3, seed=0)


def test_the_weight_is_fitted_on_development_questions() -> None:
    """One reranker that is right, one that is wrong, one that is right where the first stage is not, and only there."""
    some = _candidates(("a", ["b", "a", "c"]), ("a", ["b", "c", "a"]), ("b", ["c", "b", "a"]), ("a", ["a", "b", "c"]))
    found = some * 10
    right = judge(found, [[0, 1, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]] * 10)
    assert right.ndcg == right.details["reranker"]["ndcg@10"] == right.details["oracle"]["ndcg@10"] == 1
    assert right.weight > 0.5
    wrong = judge(found, [[1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 1, 1]] * 10)
    assert wrong.weight < 0.5
    assert wrong.ndcg == wrong.details["first_stage"]["ndcg@10"] < right.ndcg
    assert wrong.details["reranker"]["ndcg@10"] < wrong.ndcg
    assert right.details["questions"] == 40
    assert right.details["candidates"] == 3
    nothing = judge(_candidates(("a", []), ("a", ["a", "b"])), [[], [0, 1]])
    assert nothing.details["oracle"]["ndcg@10"] == 0.5


def test_questions_are_judged_as_their_data_was() -> None:
    """Qrels name documents, made questions the passage that they were made of; a question's pairs are one question."""
    rows = [replace(_pair("q", "text"), origin="qrels"), replace(_pair("q", "text"), origin="qrels", start=50, end=60)]
    (by_document,) = questions_of(rows, as_judged=True)
    (by_passage,) = questions_of(rows)
    assert by_document.spans == (GoldenSpan("d"),)
    assert by_passage.spans == (GoldenSpan("d", 0, 4), GoldenSpan("d", 50, 60))
    made = questions_of([replace(rows[0], origin="headings"), _pair("other", "text", label=0.0)], as_judged=True)
    assert [one.spans for one in made] == [(GoldenSpan("d", 0, 4),)]


def test_a_training(settings: Settings, pool: Pool, pairs: list[Pair]) -> None:
    """The model that is saved gives in search the scores that it had in training, with the weight fitted for it."""
    run = phrases.trained(settings, pool, pairs, "few", **FEW)
    dev = run.training["dev"]
    assert (run.state, run.step) == ("trained", 4)
    assert run.training["new_head"] is True
    assert run.training["lists"] == 20
    assert run.training["baseline"]["ndcg@10"] == dev["first_stage"]["ndcg@10"]  # a new head is no better than none
    assert run.training["baseline"]["rerank_weight"] == 0
    assert dev["questions"] == 6
    assert dev["blended"]["ndcg@10"] == pytest.approx(run.training["best"]["ndcg@10"], abs=1e-4)
    assert len(run.training["loss"]) == 4
    manifest = read_manifest(run.artifact or "", settings)
    assert manifest["kind"] == "cross-encoder"
    assert manifest["settings"] == {"rerank_weight": dev["rerank_weight"], "rerank_candidates": 5}
    reranker = open_reranker(run.artifact or "", settings)
    assert reranker is not None
    assert reranker.fingerprint == run.fingerprint
    assert reranker.weight == dev["rerank_weight"]
    scores = reranker.score("amber anchor", ["amber anchor", "anchor in some amber", "people walk"])
    assert len(set(scores)) == 3
    folder = Path(local_model(run.artifact or "", settings))
    assert json.loads((folder / "config_sentence_transformers.json").read_text())["activation_fn"].endswith("Identity")

    # It is a base as well: its head is kept, and counts before the first step.
    model, new_head = open_base(folder, RerankerArguments(max_length=64))
    assert not new_head
    assert model.predict([("amber anchor", "amber anchor")], show_progress_bar=False)[0] == pytest.approx(scores[0], abs=1e-5)
    # The same work gives the same model.
    again = phrases.trained(settings, pool, pairs, "again", **FEW)
    assert (again.fingerprint, again.artifact) == (run.fingerprint, run.artifact)


def test_it_learns(settings: Settings, pool: Pool, pairs: list[Pair]) -> None:
    """Sixteen steps lower the loss of a list of three, which is ln 3 for one who knows nothing."""
    run = phrases.trained(settings, pool, pairs, "learns", **FEW | {"max_steps": 16, "learning_rate": 2e-4})
    losses = [point["loss"] for point in run.training["loss"]]
    assert sum(losses[-4:]) / 4 < sum(losses[:4]) / 4
    assert losses[0] == pytest.approx(1.0986, abs=0.3)


def test_bases_that_are_none(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match="it is no transformer"):
        open_base(tmp_path, RerankerArguments())
    folder = tmp_path / "three"
    _three_labels(folder)
    assert has_head(folder)
    with pytest.raises(BadConfiguration, match="no reranker can be made of it"):
        open_base(folder, RerankerArguments())
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(BadConfiguration, match="no reranker can be made of it"):
        open_base(tmp_path / "broken", RerankerArguments())


def test_a_base_in_half_precision_is_trained_in_single(tmp_path: Path) -> None:
    phrases.half_precision(tmp_path)
    model, _ = open_base(tmp_path, RerankerArguments())
    assert {str(parameter.dtype) for parameter in model.parameters()} == {"torch.float32"}


def test_sigterm_in_the_middle(settings: Settings, pool: Pool, pairs: list[Pair], environment: dict[str, str]) -> None:
    """A real process, a real signal: it ends with 75 after a checkpoint, the next one goes on at that step to one model."""
    phrases.plan(pool, pairs, "long", **FEW | {"max_steps": 60, "checkpoint_steps": 1, "evaluate_steps": 1000})
    command = [sys.executable, "-m", "include.training", "reranker", "--run-key", "long", "--json"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 240
    while phrases.row(pool, "long").step < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    out, errors = process.communicate(timeout=240)
    assert process.returncode == 75, errors
    assert "interrupted" in out
    stopped = phrases.row(pool, "long")
    assert stopped.state == "interrupted"
    assert 2 <= stopped.step < 60
    with pool.connection() as connection:
        connection.execute(
            "update ragworks.model_run set arguments = arguments || '{\"max_seconds\": 1}' where run_key = 'long'"
        )  # it has trained for longer than that: the rest of the steps is left out
    run = phrases.again(settings, pool, "long")
    assert run.state == "trained"
    assert run.training["resumed_from"] == [stopped.step]
    assert [point["step"] for point in run.training["loss"]] == list(range(1, run.step + 1))
    assert open_reranker(run.artifact or "", settings) is not None


def test_texts_are_scored_in_their_order() -> None:
    """Also for a question of which the first stage finds nothing."""
    found = _candidates(("a", ["b", "a"]), ("a", []))
    scored = score_with(lambda query, texts, said: [one["rank"] for one in said], found, Silent())
    assert scored == [[1.0, 2.0], []]


def _three_labels(folder: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    source = models.find_model("all-MiniLM-L6-v2")
    AutoModelForSequenceClassification.from_pretrained(source, num_labels=3).save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)

"""Challengers from end to end: asked on real Postgres with real models, scored beside what serves, and judged."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from include.collection_file import Embedding, load_collection
from include.errors import BadConfiguration, BadData
from include.evaluation import timing
from include.evaluation.cases import slices, unsliced
from include.evaluation.challenge import baseline, evaluate_challenger
from include.evaluation.measures import measure_names
from include.evaluation.model_page import render_model
from include.hashing import text_hash
from include.indexing.activate import activate
from include.indexing.erasing import erase_document
from include.progress import Silent
from include.registry.gate import judge
from include.retrieval.rerank import open_reranker
from include.store import golden, model_runs
from include.store.golden import GoldenSpan
from include.store.pool import open_pool
from tests.evaluation.test_model_page import checked
from tests.evaluation.trial_models import copied, cross_encoder, other_pooling, perturbed
from tests.evaluation.trials import first_found, golden_queries, save_golden, trained, write_pages
from tests.support import index, query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from include.config import Settings
    from include.registry.decision import Decision
    from include.store.pool import Pool

RETRIEVAL = {"mode": "dense", "reranker": None, "rerank_candidates": 8, "latency_budget_ms": 60_000}
TRAINING = {"clients": 2}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of models: the packaged one again, with another pooling, with noise; and two that read pairs."""
    root = tmp_path_factory.mktemp("models")
    return {
        "same": copied(root / "same"),
        "pooled": other_pooling(root / "pooled"),
        "noisy": perturbed(root / "noisy", 0.3),
        "ruined": perturbed(root / "ruined", 0.5),
        "reader": cross_encoder(root / "reader"),
        "other_reader": cross_encoder(root / "other_reader", seed=6),
    }


@pytest.fixture(autouse=True)
def few_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as the gate wants at least are timed."""
    monkeypatch.setattr(timing, "PER_BLOCK", 20)


@pytest.fixture
def pool(settings: Settings) -> Iterator[Pool]:
    with open_pool(settings) as pool:
        yield pool


@pytest.fixture
def start(settings: Settings, documents: Path, collection: Callable[..., str], pool: Pool) -> Callable[..., None]:
    """Indexes the pages with the given settings, and keeps the golden queries."""

    def begin(**sections: Any) -> None:
        write_pages(documents)
        collection(**({"retrieval": RETRIEVAL, "training": TRAINING} | sections))
        index(settings, "handbook")
        save_golden(pool, "handbook", golden_queries())

    return begin


def _tried(settings: Settings, pool: Pool, family: str, model: Path, run_key: str = "trial") -> tuple[dict[str, Any], Decision]:
    trained(pool, "handbook", run_key, family, model)
    found = evaluate_challenger(settings, pool, run_key, progress=Silent())
    assert _row(pool, run_key).state == "evaluated"
    return found, judge(settings, pool, run_key)


def _row(pool: Pool, run_key: str = "trial") -> model_runs.ModelRun:
    with pool.connection() as connection:
        return model_runs.by_key(connection, run_key)


def _candidates(settings: Settings) -> list[str]:
    rows = query(settings, "select metrics ->> 'run_key' from ragworks.generation where state = 'candidate' order by id")
    return [row[0] for row in rows]


def _rules(decision: Decision) -> list[str]:
    return [refusal.rule for refusal in decision.refused_because]


def test_a_better_embedder(
    start: Callable[..., None], settings: Settings, pool: Pool, models: dict[str, Path], collection: Callable[..., str]
) -> None:
    """The packaged model against one with noise; what was measured is in the row, and is judged from it."""
    alternatives = [{"model": str(models["pooled"]), "price_per_million_tokens": 0.13}, {"model": str(models["pooled"] / "no")}]
    start(embedding={"model": str(models["noisy"])}, training={**TRAINING, "alternatives": alternatives})
    found, decision = _tried(settings, pool, "embedder", models["same"])
    assert decision.accepted, decision.reasons
    assert "The challenger answers better: nDCG@10" in decision.summary
    kept = _row(pool)
    assert (kept.state, kept.evaluation, kept.gate) == ("accepted", json.loads(json.dumps(found)), decision.as_dict())

    old, new = found["champion"], found["challenger"]
    assert (old["generation"], new["embedder"]["dimension"]) == (1, 384)
    assert new["measures"]["ndcg@10"]["value"] > old["measures"]["ndcg@10"]["value"] + 0.05
    assert set(new["measures"]) == set(measure_names(10))
    assert (set(found["slices"]), found["unsliced"]) == ({"section"}, {})
    assert found["a_a"]["passed"]
    assert found["latency"]["device"] == "cpu"
    sides = found["scores"]["sides"]
    assert {len(column) for side in sides.values() for column in side.values()} == {60}
    assert found["scores"]["query_hashes"] == [text_hash(q.query).hex for q in _in_order(pool)]
    timed = found["latency"]["sides"]
    assert {name: side["searches"] for name, side in timed.items()} == {"champion": 40, "challenger": 40}
    assert (
        timed["challenger"]["warm"]["p50_ms"] <= timed["challenger"]["warm"]["p95_ms"] <= timed["challenger"]["warm"]["p99_ms"]
    )
    assert timed["challenger"]["cold_ms"] > 0
    assert timed["challenger"]["clients"] == found["latency"]["clients"] == 2

    rows = {row["side"]: row for row in found["alternatives"]}  # the base is the challenger here, by its fingerprint
    assert set(rows) == {"champion", "challenger", "alternative_1", "alternative_2"}
    assert "does not exist" in rows["alternative_2"]["problem"]
    assert rows["alternative_1"]["price_per_million_tokens"] == 0.13
    assert rows["alternative_1"]["cost"] == pytest.approx(rows["alternative_1"]["tokens"] * 0.13e-6, abs=1e-4)
    assert rows["alternative_1"]["against_champion"]["queries"] == 60
    assert rows["challenger"]["tokens"] == rows["champion"]["tokens"] > 0
    assert _candidates(settings) == ["trial", ""]  # kept: for a promotion, and for the next challenger

    page = render_model(kept, "handbook", quotes=True)
    assert len(checked(page).drawings) == 4
    assert "0.13" in page
    assert "does not exist" in page

    assert judge(settings, pool, "trial").as_dict() == decision.as_dict()
    assert evaluate_challenger(settings, pool, "trial", progress=Silent()) == kept.evaluation  # judged: it stays as it is

    collection(embedding={"model": str(models["same"])}, retrieval=RETRIEVAL)
    assert index(settings, "handbook")["chunks"]["embedded"] == 0


def _in_order(pool: Pool) -> list[golden.GoldenQuery]:
    with pool.connection() as connection:
        (collection,) = connection.execute("select id from ragworks.collection").fetchone() or (0,)
        return sorted(golden.golden_queries(connection, collection), key=lambda q: text_hash(q.query))


def test_keys_that_are_not_sliced_are_named() -> None:
    """More than 20 values are a list of names and no table; the gate says that nobody looked at them."""
    queries = [
        replace(q, metadata={**q.metadata, "page": n, "tags": [str(n % 19), "all"]}) for n, q in enumerate(golden_queries())
    ]
    assert (set(slices(queries)), unsliced(queries)) == ({"section", "tags"}, {"page": 60})


def test_a_ruined_embedder(start: Callable[..., None], settings: Settings, pool: Pool, models: dict[str, Path]) -> None:
    start()
    found, decision = _tried(settings, pool, "embedder", models["ruined"])
    assert _rules(decision) == ["quality", "slice"]
    assert "The challenger answers worse" in decision.summary
    assert _row(pool).state == "refused"
    assert _candidates(settings) == []  # its index goes with it
    assert found["told"]["lost"][0]["documents"]
    assert query(settings, "select count(*) from ragworks.generation") == [(1,)]


def test_an_embedder_that_is_the_champion(
    start: Callable[..., None], settings: Settings, pool: Pool, models: dict[str, Path]
) -> None:
    """Other folder, same files: nothing is built, nothing is asked."""
    start()
    found, decision = _tried(settings, pool, "embedder", models["same"])
    assert _rules(decision) == ["identical"]
    assert "scores" not in found
    assert _candidates(settings) == []


def test_better_on_the_whole_and_worse_on_a_slice(
    start: Callable[..., None], settings: Settings, pool: Pool, models: dict[str, Path]
) -> None:
    """Questions of one section are answered by what the champion finds and the challenger does not."""
    start(embedding={"model": str(models["ruined"])})
    of_champion = load_collection(settings, "handbook")
    quirks = [
        replace(q, query=f"tell me, {q.query}", metadata={"section": "quirks"},
                spans=(GoldenSpan(first_found(settings, pool, of_champion, f"tell me, {q.query}", None)),))
        for q in golden_queries()[:20]
    ]  # fmt: skip
    plain = [replace(q, metadata={"section": "plain"}) for q in golden_queries()]
    save_golden(pool, "handbook", [*plain, *quirks])
    found, decision = _tried(settings, pool, "embedder", models["same"])
    assert _rules(decision) == ["slice"], decision.reasons
    assert "questions with section = quirks lose" in decision.summary
    assert found["comparison"]["slices"]["section"]["plain"]["mean"] > 0.05
    assert found["comparison"]["slices"]["section"]["quirks"]["mean"] < -0.05


def _prefer(settings: Settings, pool: Pool, model: Path) -> None:
    """Golden queries whose answer is what this reranker puts first: with it search is better, whoever is right."""
    collection = load_collection(settings, "handbook")
    reranker = open_reranker(str(model), settings)
    preferred = [
        replace(q, spans=(GoldenSpan(first_found(settings, pool, collection, q.query, reranker)),)) for q in golden_queries()
    ]
    save_golden(pool, "handbook", preferred)


def test_a_better_reranker(
    start: Callable[..., None], settings: Settings, pool: Pool, models: dict[str, Path], collection: Callable[..., str]
) -> None:
    """Against no second stage; then too slow under a budget that it does not keep, and equal to itself."""
    start()
    _prefer(settings, pool, models["reader"])
    before = baseline(settings, pool, _planned(pool, "trial"), progress=Silent())
    assert _row(pool).baseline == json.loads(json.dumps(before))
    assert (before["serving"]["reranker"], before["questions"]["queries"]) == (None, 60)
    with pool.connection() as connection:
        run = model_runs.by_key(connection, "trial")
        model_runs.change(connection, run.id, state="trained", artifact=str(models["reader"]))
    found = evaluate_challenger(settings, pool, "trial", progress=Silent())
    assert found["champion"]["label"] == "first stage alone"
    assert found["challenger"]["reranker"]["candidates"] == 8
    assert (found["challenger"]["weight"], found["champion"]["fingerprint"]) == (0.5, None)
    assert found["champion"]["measures"]["ndcg@10"]["value"] == before["measures"]["ndcg@10"]["value"]
    parts = found["latency"]["sides"]["challenger"]["parts"]
    assert "rerank" in parts
    assert judge(settings, pool, "trial").accepted

    collection(retrieval={**RETRIEVAL, "latency_budget_ms": 10}, training=TRAINING)
    _, decision = _tried(settings, pool, "reranker", models["reader"], "slow")
    assert _rules(decision) == ["latency"]
    assert "It is too slow" in decision.summary
    assert "budget is 10 ms" in decision.summary
    assert any("The challenger answers better" in reason for reason in decision.reasons)

    collection(retrieval={**RETRIEVAL, "reranker": str(models["reader"])}, training=TRAINING)
    _, decision = _tried(settings, pool, "reranker", models["reader"], "same")
    assert _rules(decision) == ["identical"]


def test_all_candidates_are_read_whatever_the_budget(
    start: Callable[..., None], settings: Settings, pool: Pool, models: dict[str, Path]
) -> None:
    """A tight budget would leave most of them out, and the quality would be that of the first stage."""
    start(retrieval={**RETRIEVAL, "latency_budget_ms": 10})
    _prefer(settings, pool, models["reader"])
    found, _ = _tried(settings, pool, "reranker", models["reader"])
    assert found["comparison"]["measures"]["ndcg@10"]["mean"] > 0.05


def test_a_reranker_against_the_one_that_serves(
    start: Callable[..., None], settings: Settings, pool: Pool, models: dict[str, Path]
) -> None:
    """Three sides: what serves, the challenger, and none; the questions are the other one's."""
    start(retrieval={**RETRIEVAL, "reranker": str(models["other_reader"]), "rerank_weight": 1.0})
    found, decision = _tried(settings, pool, "reranker", models["reader"])
    assert set(found["scores"]["sides"]) == {"champion", "challenger", "first_stage", "champion_again"}
    assert found["champion"]["reranker"]["model"] == str(models["other_reader"])
    assert found["champion"]["weight"] == found["challenger"]["weight"] == 1.0  # as the file says, also when it is served
    assert "without" in _rules(decision)  # a random head, alone: search is better with none
    timed = found["latency"]["sides"]
    assert {name for name, side in timed.items() if "rerank" in side["parts"]} == {"champion", "challenger"}


def test_the_pair_is_judged(start: Callable[..., None], settings: Settings, pool: Pool, models: dict[str, Path]) -> None:
    """A better embedder beside a reranker whose favourites the old one brought."""
    start(
        embedding={"model": str(models["noisy"])},
        retrieval={**RETRIEVAL, "reranker": str(models["reader"]), "rerank_weight": 0.5},
    )
    found, decision = _tried(settings, pool, "embedder", models["same"])
    matrix = found["matrix"]
    assert matrix["queries"] == 60
    assert matrix["old"]["without"] == found["champion"]["measures"]["ndcg@10"]["value"]
    assert matrix["new"]["without"] == found["challenger"]["measures"]["ndcg@10"]["value"]
    assert matrix["pair"]["mean"] == pytest.approx(matrix["new"]["with"] - matrix["old"]["with"], abs=2e-4)
    assert found["served_reranker"] == str(models["reader"])
    assert "pair" in decision.verdicts
    timed = found["latency"]["sides"]
    assert set(timed) == {"champion", "challenger", "champion_reranked", "challenger_reranked"}
    assert decision.verdicts["latency"]["challenger_p95_ms"] == timed["challenger_reranked"]["warm"]["p95_ms"]
    assert "With the reranker that serves" in render_model(_row(pool), "handbook")
    without = found | {"scores": {"sides": {k: v for k, v in found["scores"]["sides"].items() if "reranked" not in k}}}
    from include.registry.decision import GateRule
    from include.registry.gate import decide

    assert "pair" in _rules(decide(without, GateRule()))


def _planned(pool: Pool, run_key: str) -> str:
    trained(pool, "handbook", run_key, "reranker", "")
    with pool.connection() as connection:
        model_runs.change(connection, model_runs.by_key(connection, run_key).id, state="planned", artifact=None)
    return run_key


def test_too_few_golden_queries_are_told_before_anything_is_trained(
    start: Callable[..., None], settings: Settings, pool: Pool
) -> None:
    start()
    with pool.connection() as connection:
        connection.execute("delete from ragworks.golden_query where id % 2 = 0")
    with pytest.raises(BadData, match="30 golden queries that can be asked: a model is judged by at least 50"):
        baseline(settings, pool, _planned(pool, "few"), progress=Silent())
    with pool.connection() as connection:
        connection.execute("delete from ragworks.golden_query")
    with pytest.raises(BadData, match="it has no golden queries"):
        baseline(settings, pool, _planned(pool, "none"), progress=Silent())


def test_what_cannot_be_evaluated_or_judged(
    start: Callable[..., None], settings: Settings, pool: Pool, models: dict[str, Path]
) -> None:
    start()
    with pytest.raises(BadData, match="it is planned, and has left no model yet"):
        evaluate_challenger(settings, pool, _planned(pool, "early"), progress=Silent())
    with pytest.raises(BadData, match="Evaluate it first"):
        judge(settings, pool, "early")
    with pytest.raises(BadData, match="no training has the key"):
        evaluate_challenger(settings, pool, "unknown", progress=Silent())
    trained(pool, "handbook", "gone", "embedder", models["same"] / "nowhere")
    with pytest.raises(BadConfiguration, match="does not exist"):
        evaluate_challenger(settings, pool, "gone", progress=Silent())
    trained(pool, "handbook", "words", "llm", models["same"])
    with pytest.raises(BadConfiguration, match="answers are written by causal language models"):
        evaluate_challenger(settings, pool, "words", progress=Silent())


def test_another_champion_meanwhile(
    start: Callable[..., None], settings: Settings, pool: Pool, models: dict[str, Path], collection: Callable[..., str]
) -> None:
    """What was compared with the one before says nothing about the one that serves now."""
    start(embedding={"model": str(models["noisy"])})
    trained(pool, "handbook", "trial", "embedder", models["same"])
    evaluate_challenger(settings, pool, "trial", progress=Silent())
    collection(embedding={"model": str(models["pooled"])}, retrieval=RETRIEVAL, training=TRAINING)
    index(settings, "handbook")
    ((other,),) = query(settings, "select id from ragworks.generation where state = 'live'")
    with pytest.raises(BadData, match="what serves is not what it was compared with"):
        judge(settings, pool, "trial")
    with open_pool(settings) as own:
        activate(own, "handbook", 1)
    assert judge(settings, pool, "trial").accepted
    assert evaluate_challenger(settings, pool, "trial", progress=Silent()) == _row(pool).evaluation  # it still counts
    with open_pool(settings) as own:
        activate(own, "handbook", other)
    with pool.connection() as connection:
        model_runs.change(connection, _row(pool).id, artifact=str(models["same"] / "nowhere"))
    with pytest.raises(BadConfiguration, match="does not exist"):  # accepted, and waited for a click
        evaluate_challenger(settings, pool, "trial", progress=Silent())
    kept = _row(pool)
    assert (kept.state, kept.gate, kept.evaluation) == ("trained", None, None)  # it has proved nothing about this one
    with pool.connection() as connection:  # as the end of its run leaves it
        model_runs.change(connection, kept.id, artifact=str(models["same"]), state="failed", error="its run failed in evaluate")
    evaluate_challenger(settings, pool, "trial", progress=Silent())
    again = _row(pool)
    assert (again.state, again.error) == ("evaluated", None)
    assert again.evaluation["champion"]["embedder"]["model"] == str(models["pooled"])  # type: ignore[index]


def test_forget_takes_a_document_out_of_evaluations(
    start: Callable[..., None], settings: Settings, pool: Pool, models: dict[str, Path]
) -> None:
    start()
    found, _ = _tried(settings, pool, "embedder", models["ruined"])
    document = found["told"]["lost"][0]["documents"][0]
    asked = found["told"]["lost"][0]["query"]
    erase_document(pool, 1, document)
    kept = json.dumps(_row(pool).evaluation)
    assert document not in kept
    assert asked not in kept
    assert len(_row(pool).evaluation["scores"]["query_hashes"]) == 60  # type: ignore[index]


def test_references_are_kept_for_the_next_challenger(
    start: Callable[..., None], settings: Settings, pool: Pool, models: dict[str, Path], collection: Callable[..., str]
) -> None:
    """An endpoint is paid once for a text; one that is named no more goes."""
    start(training={**TRAINING, "alternatives": [{"model": str(models["noisy"])}]})
    _tried(settings, pool, "embedder", models["ruined"], "first")
    assert _candidates(settings) == [""]
    embedded = "select sum(embedded) from ragworks.run where mode = 'candidate' and key like 'candidate/reference/%%'"
    assert query(settings, embedded) == [(60,)]
    _tried(settings, pool, "embedder", models["pooled"], "second")
    assert query(settings, embedded) == [(0,)]  # its run has the same key, and is counted anew
    collection(retrieval=RETRIEVAL, training=TRAINING)
    trained(pool, "handbook", "third", "embedder", models["noisy"])
    evaluate_challenger(settings, pool, "third", progress=Silent())
    assert _candidates(settings) == ["third"]


def test_the_section_is_complete() -> None:
    """What is copied from the collection for a model that runs here has no leftovers of an endpoint."""
    section = Embedding(model="m", backend="openai", base_url="http://x/v1", price_per_million_tokens=1.0)
    assert set(section.model_dump()) == {
        "model", "base", "backend", "storage", "base_url", "tokenizer", "price_per_million_tokens",
    }  # fmt: skip

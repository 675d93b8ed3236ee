"""A forgotten document is in no dataset and no training's report, and the models that learned from it are named."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.types.json import Jsonb

from include.indexing.erasing import erase_document
from include.store import datasets, model_runs, trained
from include.store.datasets import Negative
from include.store.pool import open_pool
from tests.datasets.zoo import pair
from tests.store.remains import in_rows
from tests.support import HashEmbedder, index, query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from include.config import Settings
    from include.store.datasets import Dataset, Pair
    from include.store.pool import Pool

URI, MARKER = "people/jane-7391.md", "Kowalczyk7391"
TEXT = f"# About {MARKER}\n\n{MARKER} lives in the old mill."


@pytest.fixture
def pool(settings: Settings, documents: Path, collection: Callable[..., str]) -> Iterator[Pool]:
    collection(validation={"max_deleted": 1.0})
    (documents / "people").mkdir()
    (documents / URI).write_text(TEXT)
    (documents / "thing-1.md").write_text("Thing 1 is number 1 of the things.")
    index(settings, "handbook", embedder=HashEmbedder())
    with open_pool(settings) as pool:
        yield pool


def _dataset(pool: Pool, *rows: Pair, name: str = "training") -> Dataset:
    with pool.connection() as connection:
        return datasets.save(connection, 1, name, rows, arguments={"note": URI}, statistics={"dropped": {URI: 1}})


def _run(pool: Pool, made: Dataset, key: str, **columns: Any) -> None:
    with pool.connection() as connection:
        run = model_runs.plan(
            connection, key, family="reranker", collection=1, dataset=made.id, arguments={}, work_hash=key, base="b",
            base_fingerprint="f", code_version="c",
        )  # fmt: skip
        model_runs.change(connection, run.id, **{"attempts": 0, **columns})


ABOUT = pair(0, uri=URI, query=f"Where does {MARKER} live?", positive=TEXT, metadata={"from": URI})
OTHER = pair(1, query=f"What says {URI} of things?", negatives=())


def test_rows_go_and_negatives_go(pool: Pool, settings: Settings) -> None:
    negative = (Negative(URI, 0, 40, TEXT, 0.4), Negative("other.md", 0, 5, "Another.", 0.3))
    made = _dataset(pool, ABOUT, OTHER, replace(pair(2), negatives=negative))
    with pool.connection() as connection:
        datasets.save_checks(connection, made.id, {"leakage": {"examples": [{"what": [URI, "b.md"]}]}}, sound=False)
    erased = erase_document(pool, 1, URI).erased
    assert erased.keys() >= {"dataset", "dataset_row", "dataset_negative"}
    assert in_rows(settings, [URI, MARKER, "jane-7391"]) == set()
    with pool.connection() as connection:
        rows = list(datasets.pairs(connection, made.id))
        assert datasets.sizes(connection, made.id) == {"train": 2}
    assert [(row.query, [n.uri for n in row.negatives]) for row in rows] == [
        ("What says [forgotten] of things?", []), ("What is thing 2?", ["other.md"]),
    ]  # fmt: skip


def test_models_that_learned_from_it_are_named(pool: Pool) -> None:
    made, without = _dataset(pool, ABOUT, OTHER), _dataset(pool, OTHER, name="without")
    as_negative = _dataset(pool, pair(2, negatives=(URI,)), name="negative")
    _run(pool, made, "dag/1", state="accepted", version=3, artifact="models/reranker/x")
    _run(pool, made, "dag/planned")
    _run(pool, made, "dag/failed", state="failed", error="no GPU")
    _run(pool, made, "dag/half", state="failed", checkpoint="runs/half")
    _run(pool, without, "dag/2", state="accepted", version=4, artifact="models/reranker/y")
    _run(pool, as_negative, "cli/5", state="training")
    named = [
        "reranker version 3 (run dag/1)", "reranker without a version, failed (run dag/half)",
        "reranker without a version, training (run cli/5)",
    ]  # fmt: skip
    with pool.connection() as connection:
        assert trained.models_trained_on(connection, 1, URI) == named
        assert trained.models_trained_on(connection, 1, "never.md") == []
    assert erase_document(pool, 1, URI).models == named
    assert erase_document(pool, 1, URI).models == named  # asked again: the hashes stay


def test_a_document_that_was_renamed_since(pool: Pool, settings: Settings, documents: Path) -> None:
    """The dataset knows it by its old name; its text goes all the same."""
    made = _dataset(pool, ABOUT, OTHER, pair(2, negatives=()))
    _run(pool, made, "dag/1", state="accepted", version=1, artifact="x")
    (documents / URI).rename(documents / "renamed.md")
    index(settings, "handbook", embedder=HashEmbedder())
    erasure = erase_document(pool, 1, "renamed.md")
    assert erasure.models == ["reranker version 1 (run dag/1)"]
    with pool.connection() as connection:
        assert [row.uri for row in datasets.pairs(connection, made.id)] == ["thing-1.md", "thing-2.md"]
    assert {table for table, _ in in_rows(settings, [MARKER])} == set()


@pytest.mark.parametrize("edited", [False, True])
def test_models_are_named_by_every_name_and_again(edited: bool, pool: Pool, settings: Settings, documents: Path) -> None:
    """Renamed since, as a passage and as a negative, by the new name, by it again, and by the old one."""
    as_positive = _dataset(pool, ABOUT, name="positive")
    as_negative = _dataset(pool, pair(2, negatives=(URI,)), name="negative")
    _run(pool, as_positive, "dag/1", state="accepted", version=1, artifact="x")
    _run(pool, as_negative, "dag/2", state="accepted", version=2, artifact="y")
    _run(pool, _dataset(pool, OTHER, name="without"), "dag/3", state="accepted", version=3, artifact="z")
    if edited:
        (documents / URI).write_text(f"{MARKER} has moved.")
        index(settings, "handbook", embedder=HashEmbedder())
    (documents / URI).rename(documents / "renamed.md")
    index(settings, "handbook", embedder=HashEmbedder())
    named = ["reranker version 1 (run dag/1)", "reranker version 2 (run dag/2)"]
    assert erase_document(pool, 1, "renamed.md").models == named
    assert erase_document(pool, 1, "renamed.md").models == named
    assert erase_document(pool, 1, URI).models == named


def test_a_negative_is_known_by_its_text(pool: Pool, settings: Settings, documents: Path) -> None:
    """Where no run says how it was called before."""
    made = _dataset(pool, replace(pair(2), negatives=(Negative(URI, 0, len(TEXT), TEXT, 0.4),)), name="negative")
    _run(pool, made, "dag/2", state="accepted", version=2, artifact="y")
    (documents / URI).rename(documents / "renamed.md")
    index(settings, "handbook", embedder=HashEmbedder())
    with pool.connection() as connection:
        connection.execute("delete from ragworks.run_document")
    for _ in range(2):
        assert erase_document(pool, 1, "renamed.md").models == ["reranker version 2 (run dag/2)"]


def test_reports_of_trainings_and_promotions(pool: Pool, settings: Settings) -> None:
    """Entries that quote it go whole, other mentions lose the name, everything else stays."""
    report = {
        "measures": {"ndcg@10": {"value": 0.7}},
        "worst": [
            {"query": f"Where does {MARKER} live?", "documents": [URI, "a.md"]}, {"query": "Other?", "documents": ["a.md"]},
        ],
        "note": f"worst in {URI}",
    }  # fmt: skip
    made = _dataset(pool, OTHER)
    _run(pool, made, "dag/1", state="refused", baseline=report, evaluation=report, gate=report, training={"read": [URI]},
         error=f"{URI} is too long", version=1)  # fmt: skip
    with pool.connection() as connection:
        connection.execute(
            "insert into ragworks.deployment (environment, family, collection_id, action, state, settings, verification,"
            " reason) values ('dev', 'reranker', 1, 'rollback', 'live', '{\"rerank_weight\": 0.4}', %s, %s)",
            (Jsonb({"questions": [{"query": "q", "documents": [URI]}, {"query": "r", "documents": ["b.md"]}]}), f"for {URI}"),
        )
    erased = erase_document(pool, 1, URI).erased
    assert (erased["model_run"], erased["deployment"]) == (1, 1)
    assert in_rows(settings, [URI, MARKER]) == set()
    ((baseline, evaluation, gate, training, error),) = query(
        settings, "select baseline, evaluation, gate, training, error from ragworks.model_run"
    )
    clean = {"measures": report["measures"], "worst": [report["worst"][1]], "note": "worst in [forgotten]"}  # type: ignore[index]
    assert baseline == evaluation == gate == clean
    assert (training, error) == ({"read": []}, "[forgotten] is too long")
    assert query(settings, "select settings, verification, reason from ragworks.deployment") == [
        ({"rerank_weight": 0.4}, {"questions": [{"query": "r", "documents": ["b.md"]}]}, "for [forgotten]")
    ]

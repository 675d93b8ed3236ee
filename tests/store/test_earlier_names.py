"""A document that was renamed is forgotten with what was written of it under the names that it had before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from psycopg.types.json import Jsonb

from include.indexing.context import open_context
from include.indexing.erasing import erase_document
from include.indexing.plan import plan_run
from include.store import datasets, evaluations, feedback, golden
from include.store.datasets import Negative, Pair
from include.store.pool import open_pool
from tests.store.remains import in_rows
from tests.support import HashEmbedder, export, index, query, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from include.config import Settings
    from include.store.pool import Pool

OLD, NEW, MARKER = "people/jane-7391.md", "people/j.md", "Kowalczyk7391"
TEXT = f"# About {MARKER}\n\n{MARKER} lives in the old mill."
LIMITS = {"max_deleted": 0.9}


@pytest.fixture
def pages(documents: Path, collection: Callable[..., str], settings: Settings) -> Path:
    """Four pages, one of them about a person."""
    collection(validation=LIMITS)
    (documents / "people").mkdir()
    (documents / OLD).write_text(TEXT)
    for number in range(3):
        (documents / f"{number}.md").write_text(f"# Page {number}\n\nIt says {number}.")
    settle(documents)
    index(settings, "handbook", embedder=HashEmbedder())
    return documents


@pytest.fixture
def pool(settings: Settings, pages: Path) -> Iterator[Pool]:
    with open_pool(settings) as pool:
        yield pool


def _move(settings: Settings, pages: Path, old: str, new: str) -> None:
    (pages / old).rename(pages / new)
    assert index(settings, "handbook", embedder=HashEmbedder())["plan"]["renamed"] == 1


def _write(pool: Pool, uri: str, text: str) -> None:
    """Whatever can be written of a document: question, answer, judgement, golden query, dataset, evaluation."""
    asked = uuid4()
    results, cited = [{"document": uri, "start": 0, "end": 9}], [{"number": 1, "document": uri, "quote": text}]
    with pool.connection() as connection:
        (content,) = connection.execute("select content_hash from ragworks.document where uri = %s", (uri,)).fetchone() or (0,)
        connection.execute(
            "insert into ragworks.query_log (id, collection_id, generation_id, kind, query, results)"
            " values (%s, 1, 1, 'chat', 'how?', %s)",
            (asked, Jsonb(results)),
        )
        connection.execute(
            "insert into ragworks.answer (id, question, text, abstained, extractive, citations)"
            " values (%s, 'how?', %s, false, true, %s)",
            (asked, text, Jsonb(cited)),
        )
        connection.execute(
            "insert into ragworks.answer_source"
            " (answer_id, number, uri, content_hash, ordinal, start_char, end_char, text, score)"
            " values (%s, 1, %s, %s, 0, 0, 9, %s, 1)",
            (asked, uri, content, text),
        )
        feedback.save_feedback(connection, feedback.Feedback(asked, thumb=1, answer=text, document=uri))
        golden.save(connection, 1, [golden.GoldenQuery(f"Where is {uri}?", (golden.GoldenSpan(uri, 0, len(text)),))])
        about = Pair("how?", uri, 0, len(text), text)
        other = Pair("what?", "0.md", 0, 4, "It s", negatives=(Negative(uri, 0, len(text), text),))
        datasets.save(connection, 1, f"of {asked}", [about, other], arguments={}, statistics={})
        report = {"worst": [{"query": "q", "found": [{"document": uri, "text": text}], "documents": [uri]}]}
        evaluations.save(connection, 1, generation=1, run=None, name="x", configuration={}, report=report)


WRITTEN = {
    "answer", "answer_source", "feedback", "golden_span", "golden_query", "dataset_row", "dataset_negative", "evaluation",
    "query_log",
}  # fmt: skip


def test_renamed(pool: Pool, settings: Settings, pages: Path) -> None:
    _write(pool, OLD, TEXT)
    _move(settings, pages, OLD, NEW)
    assert {table for table, _ in in_rows(settings, [MARKER, OLD])} >= WRITTEN
    erased = erase_document(pool, 1, NEW).erased
    assert erased.keys() >= WRITTEN - {"golden_query"}
    assert erased["answer"] == 1
    assert in_rows(settings, [MARKER, OLD, NEW]) == set()
    assert erase_document(pool, 1, NEW).erased == {}


def test_edited_and_renamed_again_and_again(
    pool: Pool, settings: Settings, pages: Path, collection: Callable[..., str]
) -> None:
    """Its earlier texts are gone from the store; by the names it is found. One of the moves came with a new generation."""
    for number, (old, new) in enumerate([(OLD, "people/a; b.md"), ("people/a; b.md", "people/c.md"), ("people/c.md", NEW)]):
        (pages / old).write_text(f"{TEXT} Edited {number}.")
        index(settings, "handbook", embedder=HashEmbedder())
        _write(pool, old, f"{TEXT} Edited {number}.")
        if number == 1:
            collection(validation=LIMITS, chunking={"max_tokens": 100})
        _move(settings, pages, old, new)
    reasons = [reason for (reason,) in query(settings, "select reason from ragworks.run_document where action = 'renamed'")]
    assert sorted(reason.split("; new generation")[0] for reason in reasons) == [
        "moved from people/a; b.md", "moved from people/c.md", f"moved from {OLD}",
    ]  # fmt: skip
    assert any("new generation" in reason for reason in reasons)
    assert {table for table, _ in in_rows(settings, [MARKER, OLD, "people/"])} >= WRITTEN
    assert erase_document(pool, 1, NEW).known
    assert in_rows(settings, [MARKER, "people/"]) == set()


def test_a_name_that_is_another_documents_now(pool: Pool, settings: Settings, pages: Path) -> None:
    """What stands under it is the other's and stays; but the answer that rests on the text of this one goes."""
    _write(pool, OLD, TEXT)
    _move(settings, pages, OLD, NEW)
    (pages / OLD).write_text("# Another\n\nAnother person.")
    index(settings, "handbook", embedder=HashEmbedder())
    _write(pool, OLD, "# Another\n\nAnother person.")
    erase_document(pool, 1, NEW)
    assert {row["document"] for row in export(settings, "handbook")} == {OLD, "0.md", "1.md", "2.md"}
    left = {table for table, _ in in_rows(settings, [MARKER])}
    assert not left & {"answer", "answer_source", "feedback", "document_text", "chunks_1"}
    assert query(settings, "select text from ragworks.answer where text is not null") == [("# Another\n\nAnother person.",)]
    assert {uri for (uri,) in query(settings, "select uri from ragworks.golden_span")} == {OLD}


def test_answers_that_rest_on_a_copy_stay(pool: Pool, settings: Settings, pages: Path) -> None:
    (pages / "copy.md").write_text(TEXT)
    index(settings, "handbook", embedder=HashEmbedder())
    _write(pool, "copy.md", TEXT)
    assert erase_document(pool, 1, OLD).shared_with == ["copy.md"]
    assert query(settings, "select text, flags from ragworks.answer") == [(TEXT, [])]
    assert query(settings, "select uri from ragworks.answer_source") == [("copy.md",)]


def test_a_rename_that_is_planned_and_not_published(pool: Pool, settings: Settings, pages: Path) -> None:
    """The old name is still live: it goes at once, and not with the next publication."""
    (pages / OLD).rename(pages / NEW)
    with open_context(settings, "handbook", embedder=HashEmbedder()) as context:
        plan_run(context, "planned")
    assert OLD in {row["document"] for row in export(settings, "handbook")}
    assert erase_document(pool, 1, NEW).shared_with == []
    assert in_rows(settings, [MARKER, OLD, NEW]) == set()
    result: dict[str, Any] = index(settings, "handbook", embedder=HashEmbedder())
    assert (result["plan"]["unchanged"], result["chunks"]["total"]) == (3, 3)
    assert in_rows(settings, [MARKER, OLD, NEW]) == set()


def test_there_and_back(pool: Pool, settings: Settings, pages: Path) -> None:
    _move(settings, pages, OLD, NEW)
    _write(pool, NEW, TEXT)
    _move(settings, pages, NEW, OLD)
    erase_document(pool, 1, OLD)
    assert in_rows(settings, [MARKER, OLD, NEW]) == set()

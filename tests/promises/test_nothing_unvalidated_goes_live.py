"""Promise 4: bad rows are quarantined with the reason; a bad batch fails the run before anything is published."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from include.errors import BadData
from tests.conftest import write_rows
from tests.support import HashEmbedder, assert_same_index, export, index, query

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from include.config import Settings


@pytest.fixture
def live(settings: Settings, documents: Path, collection: Callable[..., str]) -> str:
    """A live collection of 40 rows."""
    name = collection(source={"type": "jsonl", "path": str(documents / "rows.jsonl")})
    write_rows(documents / "rows.jsonl", [{"id": str(i), "text": f"Good row {i}."} for i in range(40)])
    index(settings, name, embedder=HashEmbedder())
    return name


def _quarantine(settings: Settings) -> list[tuple[object, ...]]:
    return query(settings, "select uri, expectation from ragworks.quarantine where resolved_at is null order by uri, locator")


def test_bad_rows_are_quarantined_with_the_reason(settings: Settings, documents: Path, live: str) -> None:
    rows = [{"id": str(i), "text": f"Good row {i}, second edition."} for i in range(40)]
    rows[3]["text"] = "   "
    rows[4]["text"] = "bell \x07 inside"
    write_rows(documents / "rows.jsonl", rows)
    result = index(settings, live, embedder=HashEmbedder())
    assert result["quarantined"] == 2
    assert _quarantine(settings) == [("3", "text_not_empty"), ("4", "no_control_characters")]
    texts = {row["document"]: row["text"] for row in export(settings, live)}
    assert texts["3"] == "Good row 3."  # the earlier good version stays live
    assert texts["5"] == "Good row 5, second edition."


def test_a_bad_batch_publishes_nothing(settings: Settings, documents: Path, live: str) -> None:
    before = export(settings, live)
    rows = [{"id": str(i), "text": "" if i < 10 else f"Changed row {i}."} for i in range(40)]
    write_rows(documents / "rows.jsonl", rows)
    embedder = HashEmbedder()
    with pytest.raises(BadData, match="10 of 40 new or changed documents were rejected"):
        index(settings, live, embedder=embedder)
    assert embedder.texts == []  # stopped before it cost anything
    assert_same_index(export(settings, live), before)
    with pytest.raises(BadData):  # a retry of the same batch does not slip through, though nothing is read again
        index(settings, live, embedder=HashEmbedder())
    assert_same_index(export(settings, live), before)
    write_rows(documents / "rows.jsonl", [{"id": str(i), "text": f"Changed row {i}."} for i in range(40)])
    assert index(settings, live, embedder=HashEmbedder())["quarantined"] == 0
    assert export(settings, live)[0]["text"] == "Changed row 0."


def test_one_bad_document_stops_nobody(settings: Settings, documents: Path, live: str) -> None:
    rows = [{"id": str(i), "text": f"Good row {i}."} for i in range(40)] + [{"id": "new", "text": ""}]
    write_rows(documents / "rows.jsonl", rows)
    assert index(settings, live, embedder=HashEmbedder())["quarantined"] == 1


def test_a_limit_of_zero_tolerates_none(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    collection(validation={"max_rejected": 0.0})
    for number in range(50):
        (documents / f"{number}.md").write_text(f"Page {number}." if number else "")
    with pytest.raises(BadData, match="1 of 50"):
        index(settings, "handbook", embedder=HashEmbedder())
    assert export(settings, "handbook") == []


class _BrokenEmbedder(HashEmbedder):
    """Gives NaN for some texts, or vectors that are not of unit length."""

    def __init__(self, poison: str, factor: float) -> None:
        super().__init__()
        self._poison, self._factor = poison, factor

    def embed_documents(self, texts: Sequence[str], progress: object = None) -> NDArray[np.float32]:
        vectors = super().embed_documents(texts)
        for i, text in enumerate(texts):
            if self._poison in text:
                vectors[i] *= self._factor
        return vectors


@pytest.mark.parametrize(("factor", "expectation"), [(np.nan, "embedding_finite"), (3.0, "embedding_norm")])
def test_bad_vectors_never_go_live(
    factor: float, expectation: str, settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    for number in range(50):
        (documents / f"{number}.md").write_text(f"Page {number} {'poison' if number == 9 else 'fine'}.")
    collection()
    result = index(settings, "handbook", embedder=_BrokenEmbedder("poison", factor))
    assert (result["quarantined"], result["chunks"]["total"]) == (1, 49)
    assert _quarantine(settings) == [("9.md", expectation)]
    again = index(settings, "handbook", embedder=_BrokenEmbedder("poison", factor))
    assert (again["chunks"]["embedded"], again["quarantined"]) == (0, 1)  # not tried again until it changes
    (documents / "9.md").write_text("Page 9, repaired.")
    assert index(settings, "handbook", embedder=HashEmbedder())["quarantined"] == 0
    assert len(export(settings, "handbook")) == 50


def test_an_embedder_that_breaks_publishes_nothing(settings: Settings, documents: Path, live: str) -> None:
    before = export(settings, live)
    write_rows(documents / "rows.jsonl", [{"id": str(i), "text": f"Other row {i}."} for i in range(40)])
    with pytest.raises(BadData, match="rejected"):
        index(settings, live, embedder=_BrokenEmbedder("Other", np.nan))
    assert_same_index(export(settings, live), before)


def test_validation_reports_are_kept(settings: Settings, live: str) -> None:
    rows = query(settings, "select suite, success, evaluated, rejected, result from ragworks.validation_report order by id")
    assert [(r[0], r[1], r[2], r[3]) for r in rows] == [("documents", True, 40, 0), ("chunks", True, 40, 0)]
    assert {e["type"] for e in rows[1][4]["expectations"]} >= {"expect_column_values_to_be_between"}


def test_duplicate_ids(settings: Settings, documents: Path, live: str) -> None:
    rows = [{"id": str(i), "text": f"Good row {i}."} for i in range(40)]
    write_rows(documents / "rows.jsonl", [*rows, {"id": "5", "text": "Another row 5."}])
    assert index(settings, live, embedder=HashEmbedder())["quarantined"] == 1
    assert _quarantine(settings) == [("5", "uri_unique")]
    assert [r["text"] for r in export(settings, live) if r["document"] == "5"] == ["Good row 5."]


def test_a_row_may_move_to_another_file(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    collection(source={"type": "jsonl", "path": str(documents)})
    write_rows(documents / "b.jsonl", [{"id": "x", "text": "Moving."}, {"id": "y", "text": "Staying."}])
    write_rows(documents / "a.jsonl", [{"id": "z", "text": "First."}])
    index(settings, "handbook", embedder=HashEmbedder())
    write_rows(documents / "b.jsonl", [{"id": "y", "text": "Staying."}])
    write_rows(documents / "a.jsonl", [{"id": "z", "text": "First."}, {"id": "x", "text": "Moving."}])
    result = index(settings, "handbook", embedder=HashEmbedder())
    assert (result["plan"]["unchanged"], result["quarantined"]) == (3, 0)
    write_rows(documents / "b.jsonl", [{"id": "y", "text": "Staying."}, {"id": "x", "text": "Copied."}])
    assert index(settings, "handbook", embedder=HashEmbedder())["quarantined"] == 1
    assert _quarantine(settings) == [("x", "uri_unique")]


def test_a_file_that_turns_bad_keeps_its_good_version(
    settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    for number in range(10):
        (documents / f"{number}.md").write_text(f"Page {number}.")
    collection()
    index(settings, "handbook", embedder=HashEmbedder())
    (documents / "3.md").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20)
    result = index(settings, "handbook", embedder=HashEmbedder())
    assert (result["quarantined"], len(export(settings, "handbook"))) == (1, 10)
    assert _quarantine(settings) == [("3.md", "readable")]
    (documents / "3.md").write_text("Page 3, restored.")
    assert index(settings, "handbook", embedder=HashEmbedder())["quarantined"] == 0

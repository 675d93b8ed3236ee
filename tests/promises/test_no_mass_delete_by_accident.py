"""Promise 5: an empty, partial or failing source listing removes nothing until a person says so."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from include.errors import BadConfiguration, BadData
from tests.conftest import write_rows
from tests.support import HashEmbedder, export, index

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from include.config import Settings


def test_an_empty_listing_removes_nothing(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    for number in range(20):
        (documents / f"{number}.md").write_text(f"Page {number}.")
    collection(validation={"max_deleted": 1.0})
    index(settings, "handbook", embedder=HashEmbedder())
    before = export(settings, "handbook")
    for path in documents.iterdir():
        path.unlink()
    with pytest.raises(BadData, match=r"would delete 20 of 20 documents.*lists nothing at all"):
        index(settings, "handbook", embedder=HashEmbedder())
    assert export(settings, "handbook") == before
    assert index(settings, "handbook", embedder=HashEmbedder(), allow_deletes=True)["plan"]["deleted"] == 20
    assert export(settings, "handbook") == []


def test_too_many_deletions_stop_and_come_back(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    for number in range(20):
        (documents / f"{number}.md").write_text(f"Page {number}.")
    collection()
    index(settings, "handbook", embedder=HashEmbedder())
    before = export(settings, "handbook")
    hidden = documents.with_name("hidden")
    hidden.mkdir()
    for number in range(5):
        shutil.move(documents / f"{number}.md", hidden)
    for _ in range(2):  # a second try does not slip through
        with pytest.raises(BadData, match="would delete 5 of 20"):
            index(settings, "handbook", embedder=HashEmbedder())
    for number in range(5):
        shutil.move(hidden / f"{number}.md", documents)
    result = index(settings, "handbook", embedder=HashEmbedder())
    assert (result["plan"]["unchanged"], result["chunks"]["embedded"]) == (20, 0)
    assert export(settings, "handbook") == before


def test_a_failing_listing_removes_nothing(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    (documents / "a.md").write_text("Page.")
    collection()
    index(settings, "handbook", embedder=HashEmbedder())
    before = export(settings, "handbook")
    documents.rename(documents.with_name("elsewhere"))
    with pytest.raises(BadConfiguration, match="does not exist"):
        index(settings, "handbook", embedder=HashEmbedder(), allow_deletes=True)
    assert export(settings, "handbook") == before


def test_unreadable_rows_delete_nothing(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    """A row that lost its id may be any document: none is deleted for it."""
    live = collection(source={"type": "jsonl", "path": str(documents / "rows.jsonl")})
    write_rows(documents / "rows.jsonl", [{"id": str(i), "text": f"Good row {i}."} for i in range(40)])
    index(settings, live, embedder=HashEmbedder())
    lines = (documents / "rows.jsonl").read_text().splitlines()
    lines[5] = lines[5].replace('"id"', '"idd"')
    (documents / "rows.jsonl").write_text("\n".join(lines))
    result = index(settings, live, embedder=HashEmbedder())
    assert (result["plan"]["deleted"], result["quarantined"], len(export(settings, live))) == (0, 1, 40)

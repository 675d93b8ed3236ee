"""Promise 1: an id that two objects hold, when the one that counts leaves: the other's row takes its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.conftest import write_rows
from tests.support import HashEmbedder, export, index

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from include.config import Settings


def test_the_file_that_counted_is_deleted(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    """Nothing else changed, so that nothing but the duplicate is to be read."""
    collection(source={"type": "jsonl", "path": str(documents)}, validation={"max_deleted": 1.0, "max_rejected": 1.0})
    write_rows(documents / "a.jsonl", [{"id": "x", "text": "first"}])
    write_rows(documents / "b.jsonl", [{"id": "x", "text": "second"}, {"id": "y", "text": "other"}])
    index(settings, "handbook", embedder=HashEmbedder())
    (documents / "a.jsonl").unlink()
    index(settings, "handbook", embedder=HashEmbedder())
    assert [row["text"] for row in export(settings, "handbook")] == ["second", "other"]

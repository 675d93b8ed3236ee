"""Quarantine with an end: what was refused is tried again on a backoff, and never stops the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from include.sources.files import FilesSource
from include.store import quarantine
from include.store.pool import open_pool
from tests.support import HashEmbedder, export, index, query, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from include.config import Settings
    from include.sources.source import Document, SourceObject

OPEN = "select attempts, retry_at - last_seen from ragworks.quarantine where resolved_at is null"


class Refuses(HashEmbedder):
    """Makes an unusable vector of every text that holds "poison"."""

    def embed_documents(self, texts: Sequence[str], progress: object = None) -> NDArray[np.float32]:
        vectors = super().embed_documents(texts)
        vectors[[i for i, text in enumerate(texts) if "poison" in text]] = np.nan
        return vectors


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are opened."""
    seen: list[str] = []
    read = FilesSource.read

    def spying(self: FilesSource, obj: SourceObject) -> Iterator[Document]:
        seen.append(obj.uri)
        return read(self, obj)

    monkeypatch.setattr(FilesSource, "read", spying)
    return seen


def _pages(documents: Path, number: int = 30) -> None:
    for i in range(number):
        (documents / f"{i:02}.md").write_text(f"Page {i}.")


def _make_due(settings: Settings) -> None:
    with open_pool(settings) as pool, pool.connection() as connection:
        connection.execute("update ragworks.quarantine set retry_at = now() - interval '1 second' where resolved_at is null")


def test_a_refused_file_is_read_again_when_its_time_has_come(
    settings: Settings, documents: Path, collection: Callable[..., str], opened: list[str]
) -> None:
    collection()
    _pages(documents)
    (documents / "bad.md").write_text("")
    settle(documents)
    index(settings, "handbook", embedder=HashEmbedder())
    opened.clear()
    for attempt, hours in ((2, 20 / 60), (3, 40 / 60)):
        assert index(settings, "handbook", embedder=HashEmbedder())["reads"] == {}
        assert opened == []
        _make_due(settings)
        result = index(settings, "handbook", embedder=HashEmbedder())
        assert (result["reads"], result["quarantined"], opened) == ({"retry": 1}, 1, ["bad.md"])
        [(attempts, pause)] = query(settings, OPEN)
        assert (attempts, round(pause.total_seconds() / 3600, 2)) == (attempt, round(hours, 2))
        opened.clear()
    (documents / "bad.md").write_text("Repaired.")
    assert index(settings, "handbook", embedder=HashEmbedder())["quarantined"] == 0


def test_the_pause_grows_to_a_day(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    collection()
    _pages(documents)
    (documents / "bad.md").write_text("")
    index(settings, "handbook", embedder=HashEmbedder())
    with open_pool(settings) as pool, pool.connection() as connection:
        connection.execute("update ragworks.quarantine set attempts = 1000")
    _make_due(settings)
    index(settings, "handbook", embedder=HashEmbedder())
    assert [pause.days for _, pause in query(settings, OPEN)] == [1]


def test_refused_chunks_are_tried_again_without_stopping_the_run(
    settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    collection(validation={"max_rejected": 0.2})
    _pages(documents)
    for i in range(5):
        (documents / f"poison{i}.md").write_text(f"This is poison {i}.")
    assert index(settings, "handbook", embedder=Refuses())["quarantined"] == 5
    _make_due(settings)
    (documents / "new.md").write_text("Something new.")
    result = index(settings, "handbook", embedder=Refuses())  # five of six refused: they were published without before
    assert (result["quarantined"], result["plan"]["added"]) == (5, 6)
    assert {attempts for attempts, _ in query(settings, OPEN)} == {2}
    _make_due(settings)
    assert index(settings, "handbook", embedder=HashEmbedder())["quarantined"] == 0
    assert len(export(settings, "handbook")) == 36


def test_an_earlier_good_version_stays_live(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    collection()
    _pages(documents)
    index(settings, "handbook", embedder=Refuses())
    (documents / "03.md").write_text("poison")
    (documents / "04.md").write_text("Page four, edited.")
    assert index(settings, "handbook", embedder=Refuses())["quarantined"] == 1
    shown = {row["document"]: row["text"] for row in export(settings, "handbook")}
    assert (shown["03.md"], shown["04.md"]) == ("Page 3.", "Page four, edited.")
    with open_pool(settings) as pool, pool.connection() as connection:
        [row] = quarantine.open_rows(connection, 1)
    assert row.retry_at is not None

"""The trigger as the triggerer runs it: an endless generator over real files and a real database."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from ragworks.triggers.source_changes import SourceChangeTrigger
from tests.support import HashEmbedder, index

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from include.config import Settings

LOOK = 0.05  # seconds; collection files allow 1 and more
QUIET = 1.0  # in which a trigger that repeats itself would


@pytest.fixture
def watched(settings: Settings, documents: Path, collection: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Three documents, indexed; Airflow has no connections, so the environment says where the database is."""
    monkeypatch.setenv("RAGWORKS_DATABASE_URL", settings.database_url or "")
    monkeypatch.setenv("RAGWORKS_HOME", str(settings.home))
    monkeypatch.setenv("RAGWORKS_COLLECTIONS_DIR", str(settings.collections_dir))
    collection()
    for name in "abc":
        write(documents, name, f"Page {name}.")
    run_index(settings)
    return settings


def write(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.md").write_text(text)
    os.utime(folder / f"{name}.md", (time.time() - 100,) * 2)


def run_index(settings: Settings) -> None:
    index(settings, "handbook", embedder=HashEmbedder(), allow_deletes=True)


class Events:
    """A trigger that runs, and what it has fired so far."""

    def __init__(self, trigger: SourceChangeTrigger) -> None:
        self._stream: AsyncIterator[Any] = trigger.run()
        self._next: asyncio.Task[Any] | None = None

    async def next(self, seconds: float = 10) -> dict[str, Any] | None:
        """The next event's payload; None when there is none within ``seconds``."""
        if self._next is None:
            self._next = asyncio.ensure_future(anext(self._stream))
        done, _ = await asyncio.wait([self._next], timeout=seconds)
        if not done:
            return None
        task, self._next = self._next, None
        return dict(task.result().payload)

    async def stop(self) -> None:
        if self._next is not None:
            self._next.cancel()
            await asyncio.wait([self._next])


def watching(story: Callable[[Events], Awaitable[None]], *, seconds: float = LOOK) -> None:
    async def tell() -> None:
        events = Events(SourceChangeTrigger("handbook", seconds))
        try:
            await story(events)
        finally:
            await events.stop()

    asyncio.run(tell())


def changed(number: int, vanished: int = 0) -> dict[str, Any]:
    return {"collection": "handbook", "changed": number, "vanished": vanished}


def test_it_is_made_again_of_names_only() -> None:
    classpath, arguments = SourceChangeTrigger("handbook", 5.0).serialize()
    assert (classpath, arguments) == (
        "ragworks.triggers.source_changes.SourceChangeTrigger",
        {"collection": "handbook", "seconds": 5.0},
    )
    from airflow.sdk.module_loading import import_string

    assert import_string(classpath)(**arguments).serialize() == (classpath, arguments)


def test_each_change_fires_once(watched: Settings, documents: Path) -> None:
    async def story(events: Events) -> None:
        assert await events.next(QUIET) is None
        write(documents, "d", "Page d.")
        assert await events.next() == changed(1)
        assert await events.next(QUIET) is None  # not for each look, while its run is under way
        await asyncio.to_thread(run_index, watched)
        assert await events.next(QUIET) is None
        write(documents, "d", "Page d, second edition.")
        (documents / "a.md").unlink()
        event = await events.next()
        if event in (changed(1), changed(0, 1)):  # a look came between the two
            event = await events.next()
        assert event == changed(1, 1)
        assert await events.next(QUIET) is None

    watching(story)


def test_a_change_while_a_run_is_under_way_fires_again(watched: Settings, documents: Path) -> None:
    async def story(events: Events) -> None:
        write(documents, "d", "Page d.")
        assert await events.next() == changed(1)
        write(documents, "e", "Page e.")
        assert await events.next() == changed(2)

    watching(story)


def test_what_happened_while_no_triggerer_ran_is_found(watched: Settings, documents: Path) -> None:
    (documents / "a.md").unlink()

    async def story(events: Events) -> None:
        assert await events.next() == changed(0, 1)

    watching(story)
    watching(story)  # a restart says it once more: no run has taken it up


def test_it_recovers_when_the_database_was_away(
    watched: Settings, documents: Path, postgres: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = conninfo_to_dict(watched.database_url or "")["dbname"]

    def rename(old: str, new: str) -> None:
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute(sql.SQL("alter database {} rename to {}").format(sql.Identifier(old), sql.Identifier(new)))

    async def story(events: Events) -> None:
        assert await events.next(QUIET) is None
        rename(str(name), f"{name}_away")
        try:
            write(documents, "d", "Page d.")
            assert await events.next(4 * QUIET) is None
        finally:
            rename(f"{name}_away", str(name))
        assert await events.next(30) == changed(1)

    caplog.set_level(logging.INFO)
    watching(story)
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warnings) == 1  # not one a look
    assert "Cannot look for changes of handbook" in warnings[0]
    assert "does not answer" in warnings[0]
    assert "Looking for changes of handbook again" in caplog.messages


def test_it_outlives_a_broken_collection_file_and_reads_the_corrected_one(
    watched: Settings, documents: Path, tmp_path: Path, collection: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    file = watched.collections_dir / "handbook.yaml"

    async def story(events: Events) -> None:
        assert await events.next(QUIET) is None
        file.write_text("name: [")
        assert await events.next(QUIET) is None
        documents.rename(tmp_path / "moved")
        write(tmp_path / "moved", "d", "Page d.")
        collection(source={"type": "files", "path": str(tmp_path / "moved")})
        assert await events.next() == changed(1)

    watching(story)
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "not readable as YAML" in warnings[0]


def test_the_loop_is_not_held_up_by_a_look(watched: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow look (a large bucket) must not stop the triggers of others, which run in the same loop."""
    from include.indexing import watching as looking

    going, release = threading.Event(), threading.Event()

    def slow(*arguments: object) -> None:
        going.set()
        release.wait(10)

    monkeypatch.setattr(looking, "pending_changes", slow)

    async def story(events: Events) -> None:
        waiting = asyncio.ensure_future(events.next(2))
        while not going.is_set():
            await asyncio.sleep(0.01)
        longest = 0.0
        for _ in range(20):
            began = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - began)
        release.set()
        assert await waiting is None
        assert longest < 0.5  # Airflow warns at 0.2 s; the machine may be busy

    watching(story)


def test_credentials_come_from_the_connection_by_its_name(
    watched: Settings, collection: Callable[..., str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    collection(source={"type": "files", "path": "memory://watched", "conn_id": "store"})
    import fsspec

    with fsspec.open("memory://watched/a.md", "w") as file:
        file.write("Page a, elsewhere.")

    async def story(events: Events) -> None:
        assert await events.next(QUIET) is None
        assert "Airflow has no such connection" in caplog.text
        monkeypatch.setenv("AIRFLOW_CONN_STORE", '{"conn_type": "generic", "extra": {"skip_instance_cache": true}}')
        assert await events.next(20) == changed(1, 2)

    watching(story)


def test_a_scrubbed_collection_that_has_not_changed_does_not_fire(
    watched: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    """A run's fingerprints end in the scrubber's: those of a look must too."""

    async def story(events: Events) -> None:
        assert await events.next(QUIET) is None
        collection(privacy={"scrub": ["EMAIL_ADDRESS"]})
        assert await events.next() == changed(3)  # all is to be read again
        await asyncio.to_thread(run_index, watched)
        assert await events.next(QUIET) is None
        write(documents, "d", "Page d of jane.doe@example.com.")
        assert await events.next() == changed(1)

    watching(story)

"""What a look at a source finds, on real files and a real database, and which looks are worth an event."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psycopg
import pytest

from include.collection_file import load_collection
from include.errors import BadConfiguration, BadData, ServiceUnavailable
from include.indexing.watching import LONGEST_PAUSE, SAY_AGAIN, SETTLE, Busy, Pending, Watch, pending_changes
from include.sources import open_source
from include.store import collections, forgotten
from include.store.pool import open_pool
from tests.support import HashEmbedder, export, index, query

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from include.config import Settings

OLD = time.time() - 100  # no file of this age can change without its time showing it


def write(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        (folder / f"{name}.md").write_text(text)
        os.utime(folder / f"{name}.md", (OLD, OLD))


def look(settings: Settings, name: str = "handbook") -> Pending | None:
    return pending_changes(settings, open_source(load_collection(settings, name)), name)


def counts(settings: Settings) -> tuple[int, int] | None:
    found = look(settings)
    return None if found is None else (found.changed, found.vanished)


@pytest.fixture
def handbook(settings: Settings, documents: Path, collection: Callable[..., str]) -> Settings:
    """Four documents, indexed."""
    collection(validation={"max_deleted": 0.3})
    write(documents, **{name: f"Page {name}. " * 20 for name in "abcd"})
    index(settings, "handbook", embedder=HashEmbedder())
    return settings


def test_a_collection_that_was_never_indexed_has_changed(
    settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    collection()
    collection("other")
    assert look(settings) is None  # nothing there, and nothing known: no run could do anything
    write(documents, a="Page a.", b="Page b.")
    assert counts(settings) == (2, 0)  # in a database without our tables
    assert query(settings, "select to_regclass('ragworks.collection') is null") != [(None,)]
    index(settings, "other", embedder=HashEmbedder())
    assert counts(settings) == (2, 0)  # in one that knows other collections


def test_a_look_writes_nothing(before_tables: Settings, documents: Path, collection: Callable[..., str]) -> None:
    collection()
    write(documents, a="Page a.")
    look(before_tables)
    with psycopg.connect(before_tables.database_url or "") as connection:
        assert connection.execute("select to_regnamespace('ragworks')").fetchone() == (None,)


def test_what_is_indexed_is_no_change(handbook: Settings) -> None:
    assert look(handbook) is None


def test_a_new_a_changed_and_a_deleted_document(handbook: Settings, documents: Path) -> None:
    write(documents, e="Page e.", b="Page b, second edition.")
    (documents / "c.md").unlink()
    assert counts(handbook) == (2, 1)
    index(handbook, "handbook", embedder=HashEmbedder())
    assert look(handbook) is None
    assert {row["document"] for row in export(handbook, "handbook")} == {"a.md", "b.md", "d.md", "e.md"}


def test_a_touched_file_is_looked_into_once(handbook: Settings, documents: Path) -> None:
    os.utime(documents / "a.md", (OLD + 1, OLD + 1))
    assert counts(handbook) == (1, 0)
    result = index(handbook, "handbook", embedder=HashEmbedder())
    assert result["chunks"]["written"] == 0
    assert look(handbook) is None


def test_a_document_that_comes_back(handbook: Settings, documents: Path, tmp_path: Path) -> None:
    (documents / "a.md").rename(tmp_path / "a.md")
    assert counts(handbook) == (0, 1)
    index(handbook, "handbook", embedder=HashEmbedder())
    (tmp_path / "a.md").rename(documents / "a.md")
    assert counts(handbook) == (1, 0)
    index(handbook, "handbook", embedder=HashEmbedder())
    assert look(handbook) is None


def test_deletions_that_a_gate_refused_are_known(handbook: Settings, documents: Path) -> None:
    for name in "abc":
        (documents / f"{name}.md").unlink()
    assert counts(handbook) == (0, 3)
    with pytest.raises(BadData, match="delete 3 of 4"):
        index(handbook, "handbook", embedder=HashEmbedder())
    assert look(handbook) is None  # else every look would start a run that is stopped
    assert len(export(handbook, "handbook")) == 4


def test_a_document_that_cannot_be_read_is_known(handbook: Settings, documents: Path) -> None:
    (documents / "e.pdf").write_bytes(b"no PDF at all")
    os.utime(documents / "e.pdf", (OLD, OLD))
    write(documents, **{f"f{n}": f"Page {n}." for n in range(40)})
    assert counts(handbook) == (41, 0)
    assert index(handbook, "handbook", embedder=HashEmbedder())["quarantined"] == 1
    assert look(handbook) is None


def test_a_forgotten_document_that_is_still_listed_is_no_change(handbook: Settings, documents: Path) -> None:
    with open_pool(handbook) as pool, pool.connection() as connection:
        forgotten.forget(connection, collections.collection_id(connection, "handbook"), "a.md")
    assert look(handbook) is None
    write(documents, a="Page a, second edition.")
    assert look(handbook) is None  # no run would read it
    write(documents, e="Page e.")
    assert counts(handbook) == (1, 0)


def test_rows_of_a_database(settings: Settings, collection: Callable[..., str]) -> None:
    url = settings.database_url or ""
    driver = url.replace("postgresql:", "postgresql+psycopg:")
    collection("handbook", source={"type": "sql", "url": driver, "query": "select * from page"})
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create table page (id text, text text, updated_at timestamptz default now() - interval '1 day')")
        connection.execute("insert into page (id, text) select n, 'Page ' || n from generate_series(1, 4) n")
        assert counts(settings) == (4, 0)
        index(settings, "handbook", embedder=HashEmbedder())
        assert look(settings) is None
        connection.execute("update page set text = 'Another page', updated_at = now() - interval '1 hour' where id = '2'")
        connection.execute("delete from page where id = '3'")
        assert counts(settings) == (1, 1)


def test_the_digest_names_the_difference(handbook: Settings, documents: Path) -> None:
    write(documents, e="Page e.")
    first = look(handbook)
    assert first == look(handbook)
    write(documents, e="Page e, second edition.")
    second = look(handbook)
    assert first is not None
    assert second is not None
    assert first.digest != second.digest
    assert (first.changed, second.changed) == (1, 1)


def test_a_file_that_was_just_written_is_not_settled(handbook: Settings, documents: Path) -> None:
    now = time.time_ns()
    (documents / "e.md").write_text("Page e.")
    soon = now + 3_600_000_000_000  # a clock that is ahead: no look within the hour finds it settled
    os.utime(documents / "e.md", ns=(now // 10**9 * 10**9, now // 10**9 * 10**9))
    fresh, again = look(handbook), look(handbook)
    assert fresh is not None
    assert not fresh.settled
    assert fresh == again  # the suffix that never repeats is not part of it
    os.utime(documents / "e.md", ns=(soon, soon))
    settled = look(handbook)
    assert settled is not None
    assert settled.settled


def test_a_source_that_cannot_be_listed_is_no_change(
    handbook: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    documents.rename(documents.with_name("moved"))
    with pytest.raises(BadConfiguration, match="does not exist"):
        look(handbook)
    collection("handbook", source={"type": "files", "path": "http://127.0.0.1:9/docs"})
    with pytest.raises(ServiceUnavailable):
        look(handbook)


def test_a_database_that_is_away_is_no_change(handbook: Settings) -> None:
    away = handbook.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:9/nothing"})
    with pytest.raises(ServiceUnavailable, match="does not answer"):
        look(away)


def test_a_plan_is_not_looked_at_half_way(handbook: Settings, documents: Path) -> None:
    write(documents, e="Page e.")
    with open_pool(handbook) as pool, pool.connection() as connection:
        collection = collections.collection_id(connection, "handbook")
        collections.lock_collection_session(connection, collection)
        with pytest.raises(Busy):
            look(handbook)
        collections.unlock_collection_session(connection, collection)
    assert counts(handbook) == (1, 0)


def test_what_a_run_does_not_embed_again_is_not_asked_for(handbook: Settings, documents: Path) -> None:
    """Between plan and publish the source is known already: a long run is not announced a second time."""
    from include.indexing.context import open_context
    from include.indexing.plan import plan_run

    write(documents, e="Page e.")
    with open_context(handbook, "handbook", embedder=HashEmbedder()) as context:
        plan_run(context, "long")
        assert look(handbook) is None
        write(documents, f="Page f.")
        assert counts(handbook) == (1, 0)


def test_looks_are_silent_and_runs_are_not(handbook: Settings, documents: Path, caplog: pytest.LogCaptureFixture) -> None:
    (documents / "picture.png").write_bytes(b"")
    caplog.set_level(logging.INFO)
    look(handbook)
    assert caplog.messages == []
    index(handbook, "handbook", embedder=HashEmbedder())
    assert [message for message in caplog.messages if "ignored 1 files" in message]


def test_a_look_loads_no_model(handbook: Settings, environment: dict[str, str]) -> None:
    code = (
        "import json, sys; from include.config import Settings; from include.collection_file import load_collection;"
        "from include.sources import open_source;"
        "from include.indexing.watching import pending_changes; s = Settings.from_environment();"
        "found = pending_changes(s, open_source(load_collection(s, 'handbook')), 'handbook');"
        "heavy = ('torch', 'transformers', 'sentence_transformers', 'pandas', 'great_expectations', 'markitdown');"
        "print(json.dumps([found, [m for m in heavy if m in sys.modules]]))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [None, []]


def pending(digest: str, *, settled: bool = True) -> Pending:
    return Pending(digest, 1, 0, settled)


def test_one_event_a_difference() -> None:
    watch = Watch(5)
    looks = [None, pending("x"), pending("x"), None, None, pending("y"), pending("z"), pending("z")]
    assert [watch.fires(found, now) for now, found in enumerate(looks)] == [
        False, True, False, False, False, True, True, False,
    ]  # fmt: skip


def test_the_same_again_after_it_was_done_is_another_change() -> None:
    watch = Watch(5)
    assert [watch.fires(found, 0) for found in (pending("x"), None, pending("x"))] == [True, False, True]


def test_what_no_run_takes_up_is_said_again_after_a_long_time() -> None:
    watch = Watch(5)
    times = [0, 5, SAY_AGAIN - 1, SAY_AGAIN, SAY_AGAIN + 5, 2 * SAY_AGAIN]
    assert [watch.fires(pending("x"), now) for now in times] == [True, False, False, True, False, True]


def test_a_file_that_is_being_written_waits_for_one_look_more() -> None:
    watch = Watch(30)
    fresh = pending("x", settled=False)
    assert not watch.fires(fresh, 0)
    assert watch.pause(0) == SETTLE
    assert watch.fires(pending("x"), 1)  # settled
    assert watch.pause(0) == 30
    assert not watch.fires(pending("y", settled=False), 2)
    assert not watch.fires(pending("z", settled=False), 3)  # written to meanwhile
    assert watch.fires(pending("z", settled=False), 4)  # a store that tells no times never settles
    assert not watch.fires(pending("z", settled=False), 5)
    assert watch.pause(0) == 30  # nor is it looked at more often for that


def test_looks_that_fail_are_news_once_and_become_rare() -> None:
    watch = Watch(5)
    away = ServiceUnavailable("the database", "refused")
    assert [watch.fails(away), watch.fails(ServiceUnavailable("the database", "timed out"))] == [True, False]
    assert watch.fails(BadConfiguration("the file", "no YAML"))
    assert watch.recovers()
    assert not watch.fires(None, 0)
    assert not watch.recovers()
    assert watch.fails(away)  # away once more is news


def test_pauses() -> None:
    watch = Watch(5)
    assert watch.pause(0.1) == 5
    assert watch.pause(8.0) == 8  # at most half of the time goes into looks
    pauses = []
    for _ in range(6):
        watch.fails(OSError())
        pauses.append(watch.pause(0.1))
    assert pauses == [10, 20, 40, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE]
    rare = Watch(600)
    rare.fails(OSError())
    assert rare.pause(0.1) == 600

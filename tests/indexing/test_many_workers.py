"""Several processes and several runs share one queue and end in one state."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from include.indexing.context import open_context
from include.indexing.embed import index_shard
from include.indexing.plan import plan_run
from include.indexing.publish import publish_run, validate_run
from include.store import work_items
from tests.support import HashEmbedder, assert_same_index, export, index, query

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from include.config import Settings


def _fill(documents: Path, edition: str) -> None:
    for number in range(120):
        (documents / f"{number}.md").write_text(f"Page {number}, {edition}. " * 20)


def test_four_workers_share_a_run(
    settings: Settings, documents: Path, collection: Callable[..., str], monkeypatch: object
) -> None:
    collection()
    collection("scratch")
    _fill(documents, "first")
    embedders = [HashEmbedder() for _ in range(4)]
    finished = [0] * 4
    with open_context(settings, "handbook", embedder=HashEmbedder()) as context:
        plan_run(context, "shared")

    def work(number: int) -> None:
        with open_context(settings, "handbook", embedder=embedders[number]) as own:
            finished[number] = index_shard(own, "shared")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(finished) == 120
    with open_context(settings, "handbook", embedder=HashEmbedder()) as context:
        validate_run(context, "shared")
        outcome = publish_run(context, "shared")
        assert outcome.embedded == 120
        assert not publish_run(context, "shared").changed  # a doubled publish changes nothing
    index(settings, "scratch", embedder=HashEmbedder())
    assert_same_index(export(settings, "handbook"), export(settings, "scratch"))


def test_two_runs_at_once(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    collection()
    collection("scratch")
    _fill(documents, "first")
    index(settings, "handbook", embedder=HashEmbedder())
    _fill(documents, "second")
    errors: list[Exception] = []

    def run() -> None:
        try:
            index(settings, "handbook", embedder=HashEmbedder())
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    index(settings, "scratch", embedder=HashEmbedder())
    assert_same_index(export(settings, "handbook"), export(settings, "scratch"))
    assert query(settings, "select count(*) from ragworks.run where state <> 'done'") == [(0,)]


def test_a_dead_workers_items_come_back(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    """A worker that claimed and died holds its items only as long as its connection lives."""
    collection()
    _fill(documents, "first")
    with open_context(settings, "handbook", embedder=HashEmbedder()) as context:
        plan = plan_run(context, "run")
        with work_items.worker(context.pool) as dead, context.pool.connection() as connection:
            taken = work_items.claim(connection, plan.generation, dead.id, characters=10_000, limit=1000)
            assert 0 < len(taken) < 120
            with work_items.worker(context.pool) as other, context.pool.connection() as second:
                connection.commit()
                mine = work_items.claim(second, plan.generation, other.id, characters=10**9, limit=1000)
                assert {i.document_id for i in taken}.isdisjoint(i.document_id for i in mine)
                work_items.release(second, plan.generation, other.id)
        assert index_shard(context, "run") == 120


def test_source_taken_back_between_kill_and_run(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    """Half a run is staged, then the edit is undone: nothing of it goes live."""
    collection()
    _fill(documents, "first")
    index(settings, "handbook", embedder=HashEmbedder())
    before = export(settings, "handbook")
    _fill(documents, "second")
    with open_context(settings, "handbook", embedder=HashEmbedder()) as context:
        plan_run(context, "killed")
        index_shard(context, "killed")
    _fill(documents, "first")
    embedder = HashEmbedder()
    index(settings, "handbook", embedder=embedder)
    assert embedder.texts == []
    assert export(settings, "handbook") == before

"""Steps 3 and 4 of a run: judge the whole of it, then make it live in one transaction, all or nothing."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.errors import BadData, Transient
from include.indexing.embed import index_shard
from include.quality.gates import check_deletions, check_rejections
from include.store import changes, chunks, collections, documents, generations, quarantine, runs, work_items

if TYPE_CHECKING:
    from include.indexing.context import IndexContext
    from include.store.generations import Generation
    from include.store.pool import Connection
    from include.store.runs import Run

logger = logging.getLogger(__name__)

CATCH_UPS = 5  # tries to publish while other runs bring changes
KEEP_RETIRED = 1  # generations kept for going back


class _Behind(Transient):
    """Another run brought changes into the source's tables that are not embedded yet."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did.

    :param changed: False when there was nothing to publish.
    :param total: chunks that answer queries now.
    """

    run: int
    generation: int
    changed: bool
    total: int
    embedded: int
    reused: int
    written: int
    deleted: int
    quarantined: int


def validate_run(context: IndexContext, key: str) -> None:
    """Judge the run: everything embedded, not too much refused, not too much deleted.

    :raises BadData: a limit of the collection's ``validation`` is exceeded; nothing was published.
    """
    _catch_up(context, key)
    with context.pool.connection() as connection:
        collection, run, target = _open(context, connection, key)
        try:
            _check(context, connection, collection, run, target)
        except BadData as error:
            runs.finish_run(connection, run.id, "failed", str(error))
            connection.commit()
            raise


def publish_run(context: IndexContext, key: str) -> Outcome:
    """Make the run's changes visible to queries in one transaction; running it twice changes nothing.

    :raises BadData: as :func:`validate_run`, judged again on the state that is published.
    :raises Transient: the source keeps changing, or another generation went live.
    """
    for _ in range(CATCH_UPS):
        _catch_up(context, key)
        with suppress(_Behind):
            return _publish_once(context, key)
    raise Transient("documents are still to be embedded", "the source changes as quickly as they are embedded", "Run again")


def _publish_once(context: IndexContext, key: str) -> Outcome:
    started = time.monotonic()
    with context.pool.connection() as connection:
        collection, run, target = _open(context, connection, key)
        if target.state == "building":
            _check(context, connection, collection, run, target)
            context.progress.step("build the vector index", None)
            index = context.collection.index
            generations.build_index(connection, target, m=index.m, ef_construction=index.ef_construction)
            connection.commit()
        with connection.transaction():
            collections.lock_collection(connection, collection)
            target = generations.generation(connection, target.id)
            _check(context, connection, collection, run, target)
            context.progress.step("publish", None)
            changed, written, deleted = _publish(connection, collection, target)
            runs.add_counts(connection, run.id, written=written, deleted=deleted)
            quarantine.acknowledge(connection, collection)
            if changed:
                generations.drop_retired(connection, collection, keep=KEEP_RETIRED)
                documents.collect_garbage(connection, collection)
            runs.supersede_running(connection, run)
            runs.add_seconds(connection, run.id, "publish", time.monotonic() - started)
            runs.finish_run(connection, run.id, "done")
        if changed:
            generations.analyze(connection, target)
        return _outcome(connection, collection, key, target, changed)


def _catch_up(context: IndexContext, key: str) -> None:
    """Embed what another run brought into the source's tables since this one was planned.

    Without it a generation that was built meanwhile would go live without documents that the live one already shows.
    """
    with context.pool.connection() as connection:
        collection, run, target = _open(context, connection, key)
        if target.state not in ("building", "live"):
            return
        pending = work_items.enqueue_pending(connection, collection, target.id, run.id)
    if pending:
        index_shard(context, key)


def _open(context: IndexContext, connection: Connection, key: str) -> tuple[int, Run, Generation]:
    collection = collections.collection_id(connection, context.collection.name)
    run = runs.run_by_key(connection, collection, key)
    target = generations.generation(connection, run.generation_id or 0)
    connection.commit()
    return collection, run, target


def _check(context: IndexContext, connection: Connection, collection: int, run: Run, target: Generation) -> None:
    if target.state not in ("building", "live"):
        _check_replaced(connection, collection, target)
        return
    if work_items.enqueue_pending(connection, collection, target.id, run.id):
        raise _Behind("documents are still to be embedded", "the source changed meanwhile", "Run again")
    limits = context.collection.validation
    sizes = changes.sizes(connection, collection, target.id)
    rejected = quarantine.count_open(connection, collection, target.id)[1]
    check_rejections(rejected, sizes.awaiting_publication(target), limits)
    live = generations.live_generation(connection, collection)
    if live is not None:
        removed = [c.uri for c in changes.changes(connection, collection, live.id) if c.action == "deleted"]
        held = changes.sizes(connection, collection, live.id).held
        # A person allowed what this run's plan showed, not what another run's listing may have missed since.
        allowed = run.allow_deletes and set(removed) <= runs.deleted_uris(connection, run.id)
        check_deletions(len(removed), held, sizes.wanted, limits, allow=allowed, examples=removed)


def _check_replaced(connection: Connection, collection: int, target: Generation) -> None:
    """Nothing is lost when another generation took this one's place, provided that it shows the same documents."""
    live = generations.live_generation(connection, collection)
    if live is None or changes.changes(connection, collection, live.id):
        raise Transient(
            f"generation {target.id} was replaced while this run worked on it", "another run went live", "Run again"
        )


def _publish(connection: Connection, collection: int, target: Generation) -> tuple[bool, int, int]:
    """(anything changed, chunk rows written, chunk rows deleted)."""
    if target.state == "live":
        differs = changes.changes(connection, collection, target.id)
        if not differs:
            return False, 0, 0
        written, deleted = chunks.merge_staged(connection, target)
        deleted += chunks.remove_unwanted(connection, target)
        chunks.refresh_metadata(connection, target.id)
        return True, written, deleted
    if target.state != "building":
        return False, 0, 0  # another run has published it already
    chunks.remove_unwanted(connection, target)
    chunks.refresh_metadata(connection, target.id)
    generations.make_live(connection, target)
    logger.info("generation %d is live", target.id)
    return True, chunks.count_chunks(connection, target), 0


def _outcome(connection: Connection, collection: int, key: str, target: Generation, changed: bool) -> Outcome:
    run = runs.run_by_key(connection, collection, key)
    total = chunks.count_chunks(connection, target)
    quarantined = quarantine.count_open(connection, collection)[0]
    return Outcome(run.id, target.id, changed, total, run.embedded, run.reused, run.written, run.deleted, quarantined)

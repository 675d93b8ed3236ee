"""Steps 3 and 4 of a run: judge the whole of it, then make it live in one transaction, all or nothing."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.errors import BadData, Transient
from include.quality.gates import check_deletions, check_rejections
from include.store import changes, chunks, collections, documents, generations, quarantine, runs, work_items

if TYPE_CHECKING:
    from include.indexing.context import IndexContext
    from include.store.generations import Generation
    from include.store.pool import Connection
    from include.store.runs import Run

logger = logging.getLogger(__name__)

KEEP_RETIRED = 1  # generations kept for going back


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
    :raises Transient: documents are still to be embedded.
    """
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
    """
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


def _open(context: IndexContext, connection: Connection, key: str) -> tuple[int, Run, Generation]:
    collection = collections.collection_id(connection, context.collection.name)
    run = runs.run_by_key(connection, collection, key)
    target = generations.generation(connection, run.generation_id or 0)
    connection.commit()
    return collection, run, target


def _check(context: IndexContext, connection: Connection, collection: int, run: Run, target: Generation) -> None:
    left = work_items.remaining(connection, target.id)
    if left:
        raise Transient(
            f"{left} documents are still to be embedded",
            "a worker stopped, or the source changed meanwhile",
            "Run again",
        )
    limits = context.collection.validation
    sizes = changes.sizes(connection, collection, target.id)
    check_rejections(quarantine.count_open(connection, collection)[1], changes.awaiting_publication(connection, target), limits)
    live = generations.live_generation(connection, collection)
    if live is not None:
        removed = [c.uri for c in changes.changes(connection, collection, live.id) if c.action == "deleted"]
        held = changes.sizes(connection, collection, live.id).held
        check_deletions(len(removed), held, sizes.wanted, limits, allow=run.allow_deletes, examples=removed)


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

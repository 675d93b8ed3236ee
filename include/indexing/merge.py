"""Judges what waits for a generation and merges it into the rows that answer queries, in the caller's transaction."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from include.errors import Transient
from include.privacy.scrub import open_scrubber
from include.quality.gates import check_deletions, check_losses, check_rejections
from include.store import changes, chunk_merge, chunks, documents, generations, quarantine, raw_texts, runs, work_items

if TYPE_CHECKING:
    from include.indexing.context import IndexContext
    from include.store.generations import Generation
    from include.store.pool import Connection
    from include.store.runs import Run

logger = logging.getLogger(__name__)

CATCH_UPS = 5  # tries to publish while other runs bring changes


class Behind(Transient):
    """Another run brought changes into the source's tables that are not embedded yet."""


def check(context: IndexContext, connection: Connection, run: Run, target: Generation) -> None:
    """Everything embedded, not too much refused, not too much deleted.

    :raises Behind: documents are still to be embedded.
    :raises BadData: a limit of the collection's ``validation`` is exceeded.
    """
    collection = target.collection_id
    if work_items.enqueue_pending(connection, collection, target.id, run.id):
        raise Behind("documents are still to be embedded", "the source changed meanwhile", "Run again")
    limits = context.collection.validation
    sizes = changes.sizes(connection, collection, target.id)
    rejected = quarantine.count_open(connection, collection, target.id)[1]
    check_rejections(rejected, sizes.awaiting_publication(target), limits, name=context.collection.name, held=sizes.held)
    live = generations.live_generation(connection, collection)
    if live is not None:
        of_live = sizes if live.id == target.id else changes.sizes(connection, collection, live.id)
        removed = changes.deletions(connection, collection, live.id) if of_live.leaving else []
        # A person allowed what this run's plan showed, not what another run's listing may have missed since.
        allowed = run.allow_deletes and set(removed) <= runs.deleted_uris(connection, run.id)
        check_deletions(len(removed), of_live.held, sizes.wanted, limits, allow=allowed, examples=removed)
        lost = changes.lacking(connection, collection, live.id, target.id) if target.state == "building" else []
        check_losses(target.id, lost, of_live.held, limits, name=context.collection.name, allow=run.allow_deletes)


def remove(connection: Connection, held: Generation) -> int:
    """Take out what the source no longer has, with the quarantine rows of it; the gate has let it go.

    :return: chunk rows deleted.
    """
    quarantine.resolve_vanished(connection, held.collection_id)
    deleted = chunks.remove_unwanted(connection, held)
    quarantine.resolve_outdated(connection, held.collection_id)
    return deleted


def publish_changes(context: IndexContext, connection: Connection, run: Run, live: Generation) -> bool:
    """Make the live generation what the source wants.

    :return: False when it was already.
    :raises Behind: documents are still to be embedded.
    :raises BadData: a limit of the collection's ``validation`` is exceeded.
    """
    check(context, connection, run, live)
    unscrubbed = bool(live.metrics.get("unscrubbed"))
    if not unscrubbed and not changes.any_change(connection, live.collection_id, live.id):
        chunk_merge.drop_staged(connection, live)
        remove(connection, live)
        return False
    context.progress.step("publish", None)
    if unscrubbed:
        scrub_kept(context, connection, live.collection_id)
    documents.move_renamed(connection, live.collection_id, live.id)
    written, deleted = chunk_merge.merge_staged(connection, live)
    deleted += remove(connection, live)
    chunks.refresh_metadata(connection, live.id)
    if unscrubbed:
        deleted += chunks.remove_outdated(connection, live)
        generations.clear_unscrubbed(connection, live.id)
    runs.add_counts(connection, run.id, written=written, deleted=deleted)
    quarantine.acknowledge(connection, live.collection_id, live.id)
    return True


def scrub_kept(context: IndexContext, connection: Connection, collection: int) -> None:
    """Take out of answers, datasets and reports what is taken out of documents now, and was not when they were kept."""
    scrubber = open_scrubber(context.collection.privacy)
    if scrubber is not None:
        rows = raw_texts.rewrite(connection, collection, lambda text: scrubber.scrub(text)[0])
        logger.info("scrubbed what is kept beside the index, rows by table: %s", rows)

"""Keeps the live generation in step with the source while another one is built to replace it."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from include.errors import BadData, Terminal
from include.indexing.merge import CATCH_UPS, Behind, publish_changes
from include.indexing.worker import drain
from include.store import changes, collections, generations, work_items

if TYPE_CHECKING:
    from include.indexing.context import IndexContext
    from include.store.generations import Generation
    from include.store.runs import Run

logger = logging.getLogger(__name__)


def keep_serving(context: IndexContext, run: Run, target: Generation) -> int:
    """Bring what the source changed into the live generation, when it is not the one that this run fills.

    :return: documents that this worker finished.
    :raises BadData: a gate stops the run; nothing was published.
    """
    if target.state != "building":
        return 0
    with context.pool.connection() as connection:
        live = generations.live_generation(connection, target.collection_id)
        if live is None or not changes.any_change(connection, target.collection_id, live.id):
            return 0
    try:
        return _bring_in_step(context.for_generation(live), run, live)
    except BadData:
        raise
    except Terminal as error:  # its model is gone or changed: it serves as it is until the new one takes over
        logger.warning("generation %d cannot take the changes in: %s", live.id, error)
        return 0


def _bring_in_step(context: IndexContext, run: Run, live: Generation) -> int:
    finished = 0
    for _ in range(CATCH_UPS):
        with context.pool.connection() as connection:
            work_items.enqueue_pending(connection, live.collection_id, live.id, run.id)
        finished += drain(context, run, live)
        with context.pool.connection() as connection, connection.transaction():
            collections.lock_collection(connection, live.collection_id)
            live = generations.generation(connection, live.id)
            if live.state != "live":
                break  # another run's generation took over
            with suppress(Behind):
                publish_changes(context, connection, run, live)
                break
    return finished

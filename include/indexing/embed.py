"""Step 2 of a run: any number of workers chunk and embed what the run planned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.indexing.serving import keep_serving
from include.indexing.worker import drain
from include.store import collections, generations, runs

if TYPE_CHECKING:
    from include.indexing.context import IndexContext


def index_shard(context: IndexContext, key: str) -> int:
    """Work on the run's generation until its queue is empty; any number of processes may do this at once.

    While a new generation is built the one that serves is brought in step first, so that it does not fall behind.

    :return: documents this worker finished.
    :raises BadData: so many documents were refused that the run cannot be published.
    """
    with context.pool.connection() as connection:
        collection = collections.collection_id(connection, context.collection.name)
        run = runs.run_by_key(connection, collection, key)
        target = generations.generation(connection, run.generation_id or 0)
    return keep_serving(context, run, target) + drain(context, run, target)

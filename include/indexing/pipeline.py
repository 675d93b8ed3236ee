"""The four steps of a run in one process, as the command line runs them; Airflow runs the same steps as tasks."""

from __future__ import annotations

import time
import uuid
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import psycopg

from include.errors import BadData, RagworksError
from include.indexing.embed import index_shard
from include.indexing.plan import Plan, plan_run
from include.indexing.publish import Outcome, publish_run, validate_run
from include.store import collections, runs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.indexing.context import IndexContext


def index_collection(
    context: IndexContext, *, mode: str = "incremental", allow_deletes: bool = False, key: str | None = None
) -> dict[str, Any]:
    """Run all steps.

    :param mode: ``incremental``, ``plan`` (say what would be done) or ``rebuild`` (read and embed everything again).
    :return: collection, generation, run, plan, chunks, quarantined, seconds.
    """
    started = time.monotonic()
    key = key or f"cli-{uuid.uuid4()}"
    plan = plan_run(context, key, mode=mode, allow_deletes=allow_deletes)
    if mode == "plan":
        outcome = None
    else:
        with failing(context, key):
            index_shard(context, key)
            validate_run(context, key)
            outcome = publish_run(context, key)
    return summary(context.collection.name, plan, outcome, time.monotonic() - started)


@contextmanager
def failing(context: IndexContext, key: str) -> Iterator[None]:
    """Note on the run what stopped it."""
    try:
        yield
    except BaseException as error:  # an interrupt too
        reason = str(error) if isinstance(error, RagworksError) else type(error).__name__
        with suppress(psycopg.Error, BadData), context.pool.connection() as connection:
            collection = collections.collection_id(connection, context.collection.name)
            runs.finish_run(connection, runs.run_by_key(connection, collection, key).id, "failed", reason)
        raise


def summary(name: str, plan: Plan, outcome: Outcome | None, seconds: float) -> dict[str, Any]:
    """The JSON of `ragworks index`."""
    counts = asdict(outcome) if outcome else {}
    return {
        "collection": name,
        "generation": plan.generation if outcome else None,
        "run": plan.run,
        "plan": plan.counts,
        "chunks": {k: counts.get(k, 0) for k in ("total", "embedded", "reused", "written", "deleted")},
        "quarantined": outcome.quarantined if outcome else plan.quarantined,
        "seconds": round(seconds, 3),
    } | ({"stopped": plan.stopped} if plan.stopped else {})

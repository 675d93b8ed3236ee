"""The four steps of a run in one process, as the command line runs them; Airflow runs the same steps as tasks."""

from __future__ import annotations

import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import psycopg

from include.errors import BadData, RagworksError
from include.indexing.embed import index_shard
from include.indexing.plan import ACTIONS, plan_run
from include.indexing.publish import finish_idle, publish_run, validate_run
from include.store import chunks, collections, generations, quarantine, runs
from include.store.errors import translate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.indexing.context import IndexContext
    from include.store.pool import Connection


def index_collection(
    context: IndexContext,
    *,
    mode: str = "incremental",
    allow_deletes: bool = False,
    key: str | None = None,
    rebuild: bool = False,
) -> dict[str, Any]:
    """Run all steps.

    :param mode: ``incremental``, ``plan`` (say what would be done) or ``rebuild`` (read and embed everything again).
    :param rebuild: in mode ``plan``: what a rebuild would do.
    :return: the report of the run, see :func:`report`.
    """
    key = key or f"cli-{uuid.uuid4()}"
    with failing(context, key):
        plan = plan_run(context, key, mode=mode, allow_deletes=allow_deletes, rebuild=rebuild)
        if plan.idle and mode != "plan":
            finish_idle(context, key)
        elif mode != "plan":
            index_shard(context, key)
            validate_run(context, key)
            publish_run(context, key)
    with context.pool.connection() as connection:
        return report(connection, context.collection.name, key)


@contextmanager
def failing(context: IndexContext, key: str) -> Iterator[None]:
    """Note on the run what stopped it."""
    try:
        yield
    except BaseException as error:  # an interrupt too
        known = translate(error) if isinstance(error, psycopg.Error) else error
        reason = str(known) if isinstance(known, RagworksError) else type(error).__name__
        with suppress(psycopg.Error, BadData), context.pool.connection() as connection:
            collection = collections.collection_id(connection, context.collection.name)
            runs.finish_run(connection, runs.run_by_key(connection, collection, key).id, "failed", reason)
        raise


def report(connection: Connection, name: str, key: str) -> dict[str, Any]:
    """The JSON of `ragworks index`, from the rows that the run left.

    :return: collection, generation (None of a plan), run, plan, chunks, quarantined, estimate, reads, scrubbed, seconds, and
        what there is to note.
    """
    collection = collections.collection_id(connection, name)
    run = runs.run_by_key(connection, collection, key)
    plan = run.plan or {}
    planned = run.mode == "plan" or run.generation_id is None
    total = 0 if planned else chunks.count_chunks(connection, generations.generation(connection, run.generation_id or 0))
    finished = run.finished_at or runs.database_time(connection)
    done = {"embedded": run.embedded, "reused": run.reused, "written": run.written, "deleted": run.deleted}
    return {
        "collection": name,
        "generation": None if planned else run.generation_id,
        "run": run.id,
        "plan": {action: plan.get(action, 0) for action in (*ACTIONS, "unchanged")},
        "chunks": {"total": total, **done},
        "quarantined": plan.get("quarantined", 0) if planned else quarantine.count_open(connection, collection)[0],
        "estimate": run.estimate or {},
        "reads": run.reads,
        "scrubbed": run.scrubbed,
        "seconds": round((finished - run.started_at).total_seconds(), 3),
    } | {said: plan[said] for said in ("note", "stopped") if plan.get(said)}

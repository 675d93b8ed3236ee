"""Whether what a model was compared with still serves: a winner over another champion has proved nothing about this one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.errors import BadData, Transient
from include.evaluation.contenders import serving_now
from include.store import deployed_embedders, deployments

if TYPE_CHECKING:
    from include.config import Settings
    from include.store.model_runs import ModelRun
    from include.store.pool import Connection, Pool

FAMILIES = ("reranker", "embedder", "llm")


def is_overtaken(settings: Settings, pool: Pool, name: str, run: ModelRun) -> bool:
    """Whether something else serves than the model was compared with; one that serves itself, or is about to, is not.

    :param name: of its collection.
    """
    with pool.connection() as connection:
        for state in (deployments.deployed, deployments.pending):
            own = state(connection, settings.environment, run.family, run.collection_id)
            if own is not None and own.model_run_id == run.id:
                return False
    return serving_now(settings, pool, name, run.family) != (run.evaluation or {}).get("serving")


def require_compared(settings: Settings, pool: Pool, name: str, run: ModelRun) -> None:
    """Nothing when the comparison still counts.

    :raises BadData: something else serves by now.
    :raises Transient: an embedder is being promoted: when it is live, something else serves.
    """
    if is_overtaken(settings, pool, name, run):
        raise BadData(
            f"{run.family} {run.version} of {name} is not promoted", "what serves is not what it was compared with: another "
            "was promoted or rolled back meanwhile", "Evaluate it again; a person may promote it all the same with `ragworks "
            f"promote {run.family} {run.version}`",
        )  # fmt: skip
    with pool.connection() as connection:
        waiting = deployments.pending(connection, settings.environment, "embedder", run.collection_id)
    if waiting is not None and waiting.model_run_id != run.id:
        raise Transient(
            f"{run.family} {run.version} of {name} is not promoted yet",
            f"embedder {waiting.version} is being promoted, which it was not compared with", "Run again when that is over",
        )  # fmt: skip


def standing(connection: Connection, settings: Settings, collection: int) -> tuple[object, ...]:
    """What serves and what is being promoted, by rows alone: two of them are equal when nothing was promoted in between."""
    environment = settings.environment
    rows = [
        state(connection, environment, family, collection)
        for family in FAMILIES
        for state in (deployments.deployed, deployments.pending)
    ]
    return (deployed_embedders.live_embedder(connection, collection), *(row.id if row else None for row in rows))

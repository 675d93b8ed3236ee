"""Takes a promotion back: the model before serves again at once. Nothing is embedded, and MLflow need not be there."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from include.errors import BadData, Transient
from include.indexing.activate import activate
from include.registry.versions import sync_aliases
from include.store import collections, deployed_embedders, deployments, generations

if TYPE_CHECKING:
    from include.config import Settings
    from include.store.deployments import Deployment
    from include.store.generations import Generation
    from include.store.pool import Connection, Pool

logger = logging.getLogger(__name__)


def roll_back_model(
    settings: Settings,
    pool: Pool,
    family: str,
    *,
    collection: str,
    actor: str = "",
    reason: str = "",
    ended: str = "replaced",
) -> dict[str, Any]:
    """Go back to what served before the present model, or to none; done twice it leads back.

    A promotion of an embedder that is not live yet is given up instead.

    :param ended: what becomes of the present one: ``replaced``, or ``failed`` when it was found wanting.
    :return: family, collection, environment, version (None: no trained model), replaced, cancelled (the version of a promotion
        that was given up), generation and behind (documents that the next run brings in step) of an embedder, seconds.
    :raises BadData: nothing was promoted, or the index of the embedder before is gone.
    :raises Transient: an embedder is being promoted by another process.
    """
    started = time.monotonic()
    with pool.connection() as connection:
        collection_id = collections.collection_id(connection, collection)
    if family == "embedder":
        found = _embedder(settings, pool, collection, collection_id, actor, reason, ended)
    else:
        found = _at_once(settings, pool, family, collection, collection_id, actor, reason, ended)
    seconds = round(time.monotonic() - started, 3)
    logger.info("%s of %s in %s: rolled back, %s", family, collection, settings.environment, found)
    sync_aliases(settings, pool, family, collection)
    start = {"family": family, "collection": collection, "environment": settings.environment}
    return {**start, "version": None, "replaced": None, "cancelled": None, **found, "seconds": seconds}


def _at_once(
    settings: Settings, pool: Pool, family: str, name: str, collection: int, actor: str, reason: str, ended: str
) -> dict[str, Any]:
    with pool.connection() as connection, connection.transaction():
        deployments.lock(connection, collection)
        live = _required(connection, settings, family, name, collection)
        before = _before(connection, live, name)
        deployments.put_live(
            connection, settings.environment, family, collection,
            model_run=before.model_run_id if before else None, version=before.version if before else None,
            settings=before.settings if before else {}, action="rollback", reason=reason, actor=actor, ended=ended,
        )  # fmt: skip
    return {"version": before.version if before else None, "replaced": live.version}


def _embedder(
    settings: Settings, pool: Pool, name: str, collection: int, actor: str, reason: str, ended: str
) -> dict[str, Any]:
    with deployments.promoting(pool, collection) as held:
        if not held:
            raise Transient(f"an embedder of {name} is being promoted", "one at a time", "Stop that, or wait; then run again")
        with pool.connection() as connection, connection.transaction():
            deployments.lock(connection, collection)
            deployed_embedders.follow_index(connection, collection)
            waiting = deployments.pending(connection, settings.environment, "embedder", collection)
            if waiting is not None:
                deployments.fail(connection, waiting.id, f"given up by {actor or 'a person'}")
                return {"version": _version(connection, settings, collection), "cancelled": waiting.version}
            live = _required(connection, settings, "embedder", name, collection)
            before = _before(connection, live, name)
            index = _index_of(connection, collection, before, live, name)
        swapped = activate(pool, name, index.id, actor=actor, reason=reason, ended=ended)
    return {
        "version": before.version if before else None, "replaced": live.version, "generation": swapped["generation"],
        "behind": swapped["behind"],
    }  # fmt: skip


def _required(connection: Connection, settings: Settings, family: str, name: str, collection: int) -> Deployment:
    live = deployments.deployed(connection, settings.environment, family, collection)
    if live is None:
        raise BadData(f"no {family} of {name} was promoted in {settings.environment}", "", "See: ragworks models")
    return live


def _before(connection: Connection, live: Deployment, name: str) -> Deployment | None:
    """:raises BadData: there is nothing to go back to."""
    before = deployments.previous(connection, live)
    if before is None and live.model_run_id is None:
        raise BadData(f"{name} has no {live.family} to go back to", "no trained one serves", "See: ragworks models")
    return before


def _index_of(connection: Connection, collection: int, before: Deployment | None, live: Deployment, name: str) -> Generation:
    """The kept generation that the embedder before made: the one that served last.

    :raises BadData: it was dropped.
    """
    wanted = before.settings.get("embedder") if before else live.settings.get("before")
    found = [g for g in generations.generations(connection, collection) if g.state == "retired" and g.embedder == wanted]
    if found:
        return max(found, key=lambda g: (g.retired_at or g.created_at, g.id))
    who = f"embedder {before.version}" if before and before.version is not None else "the base model"
    again = (
        f"Build it again: ragworks promote embedder {before.version} --collection {name}"
        if before and before.version is not None
        else f"Build it again: set embedding.model to it in the file of {name}, and run: ragworks index {name}"
    )
    raise BadData(
        f"{name} cannot go back at once", f"the index of {who} was dropped: generations.keep says how many stay", again
    )


def _version(connection: Connection, settings: Settings, collection: int) -> int | None:
    live = deployments.deployed(connection, settings.environment, "embedder", collection)
    return live.version if live else None

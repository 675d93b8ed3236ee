"""Keeps the deployments of embedders in step with the index: the embedder that serves is the one whose index is live.

Both change in one transaction, so that a process that dies in between leaves neither without the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include.store import deployments

if TYPE_CHECKING:
    from include.store.deployments import Deployment
    from include.store.pool import Connection

FAMILY = "embedder"


def follow_index(connection: Connection, collection: int) -> None:
    """After a swap or a refusal: a pending embedder whose index is live is live; one whose index was refused has failed."""
    if not any(one.state == "pending" for one in deployments.of_family(connection, FAMILY, collection)):
        return
    deployments.lock(connection, collection)
    live = live_embedder(connection, collection)
    for one in deployments.of_family(connection, FAMILY, collection):
        if one.state != "pending":
            continue
        if one.settings.get("embedder") == live:
            deployments.make_live(connection, one)
        elif (refused := _refused(connection, one)) is not None:
            deployments.fail(connection, one.id, f"the quality gate refused its index, generation {refused}")


def follow_activation(
    connection: Connection, collection: int, left: str | None, chosen: str, *, actor: str, reason: str, ended: str = "replaced"
) -> None:
    """After a person put another generation into service: its embedder serves now, in every environment where the other did.

    :param left: fingerprint of the embedder whose index was live, ``chosen`` of the one whose index is.
    :param ended: see :func:`include.store.deployments.make_live`.
    """
    if left == chosen or not deployments.of_family(connection, FAMILY, collection):
        return
    deployments.lock(connection, collection)
    known = deployments.of_family(connection, FAMILY, collection)
    for environment in sorted({one.environment for one in known}):
        here = [one for one in known if one.environment == environment]
        live = next((one for one in here if one.state == "live"), None)
        same = next((one for one in here if one.settings.get("embedder") == chosen), None)
        if live is None and same is None:
            continue
        if live is not None and live.settings.get("embedder") != left:
            continue  # another collection file than the promotions': this one's model is not from here
        _go_to(connection, environment, collection, same, chosen, actor=actor, reason=reason, ended=ended)


def is_left(connection: Connection, environment: str, collection: int, embedder: str) -> bool:
    """Whether a promotion or rollback has meanwhile gone to another embedder than the one that an index is built with.

    Holds the deployments until the caller's transaction ends, which is about to make that index live.
    """
    deployments.lock(connection, collection)
    known = deployments.history(connection, environment, FAMILY, collection)
    chosen = {one.state: one for one in known if one.state in ("pending", "live") and one.model_run_id is not None}
    wanted = chosen.get("pending") or chosen.get("live")
    if wanted is not None:
        return bool(wanted.settings.get("embedder") != embedder)
    return any(one.model_run_id is not None and one.settings.get("embedder") == embedder for one in known)


def live_embedder(connection: Connection, collection: int) -> str | None:
    """Fingerprint of the embedder whose index answers queries."""
    row = connection.execute(
        "select embedder from ragworks.generation where collection_id = %s and state = 'live'", (collection,)
    ).fetchone()
    return str(row[0]) if row else None


def _go_to(
    connection: Connection,
    environment: str,
    collection: int,
    same: Deployment | None,
    chosen: str,
    *,
    actor: str,
    reason: str,
    ended: str,
) -> None:
    if same is not None and same.state == "pending":
        deployments.make_live(connection, same, ended=ended)
        return
    settings: dict[str, Any] = dict(same.settings) if same else {"embedder": chosen}
    deployments.put_live(
        connection, environment, FAMILY, collection,
        model_run=same.model_run_id if same else None, version=same.version if same else None, settings=settings,
        action="promote" if same and same.state == "failed" else "rollback", reason=reason, actor=actor, ended=ended,
    )  # fmt: skip


def _refused(connection: Connection, one: Deployment) -> int | None:
    row = connection.execute(
        "select id from ragworks.generation where collection_id = %s and embedder = %s and state = 'failed'"
        " and retired_at >= %s order by id desc limit 1",
        (one.collection_id, one.settings.get("embedder"), one.created_at),
    ).fetchone()
    return int(row[0]) if row else None

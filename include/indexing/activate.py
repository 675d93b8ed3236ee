"""Puts another generation into service at once: nothing is embedded, queries change over between two statements."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from include.errors import BadData
from include.store import changes, chunks, collections, deployed_embedders, generations, work_items

if TYPE_CHECKING:
    from datetime import datetime

    from include.store.generations import Generation
    from include.store.pool import Connection, Pool


def activate(
    pool: Pool, name: str, generation_id: int, *, actor: str = "", reason: str = "", ended: str = "replaced"
) -> dict[str, Any]:
    """Make a retired or refused generation live; where it was made by another embedder than the live one, that is deployed.

    :param actor: who wants it, and why, for the history of deployments.
    :param ended: what becomes of the deployment before, see :func:`include.store.deployments.put_live`.
    :return: collection, generation, replaced, behind (documents that the next run brings in step), seconds.
    :raises BadData: there is no such generation, or it is not complete.
    """
    with pool.connection() as connection:
        collection = collections.collection_id(connection, name)
        return _swap(connection, collection, name, generation_id, actor=actor, reason=reason, ended=ended)


def rollback(pool: Pool, name: str, *, since: datetime | None = None) -> dict[str, Any]:
    """Go back to the generation that served last.

    :param since: when it was asked for: a swap after that is taken for this one, so that a retry does not go forward again.
    :return: as :func:`activate`.
    :raises BadData: none is kept.
    """
    with pool.connection() as connection:
        collection = collections.collection_id(connection, name)
        existing = generations.generations(connection, collection)
        live = next((g for g in existing if g.state == "live"), None)
        if since and live and live.live_at and live.live_at > since:
            return _swap(connection, collection, name, live.id)
        retired = [g for g in existing if g.state == "retired" and g.live_at]
        if not retired:
            raise BadData(
                f"{name} has no generation to go back to", "none served before the live one, or generations.keep is 0",
                f"See: ragworks generations {name}",
            )  # fmt: skip
        latest = max(retired, key=lambda g: (g.retired_at or g.created_at, g.id))
        return _swap(connection, collection, name, latest.id)


def _swap(
    connection: Connection,
    collection: int,
    name: str,
    generation_id: int,
    *,
    actor: str = "",
    reason: str = "",
    ended: str = "replaced",
) -> dict[str, Any]:
    started = time.monotonic()
    with connection.transaction():
        collections.lock_publication(connection, collection)
        existing = generations.generations(connection, collection)
        chosen = _complete(next((g for g in existing if g.id == generation_id), None), name, generation_id)
        live = next((g for g in existing if g.state == "live"), None)
        replaced = live if live is None or live.id != chosen.id else None
        if chosen.state != "live":
            # It did not follow the source while it was out of service: what was deleted must not come back.
            chunks.remove_deleted(connection, chosen)
            generations.make_live(connection, chosen)
            work_items.clear(connection, chosen.id)
            # The settings may still ask for the one that is left: runs shall not build it again at once.
            left = replaced.spec_hash if replaced is not None and replaced.spec_hash != chosen.spec_hash else None
            collections.hold_spec(connection, collection, left)
            deployed_embedders.follow_activation(
                connection, collection, replaced.embedder if replaced else None, chosen.embedder,
                actor=actor, reason=reason or f"generation {chosen.id} was activated", ended=ended,
            )  # fmt: skip
        behind = changes.sizes(connection, collection, chosen.id).pending
    return {
        "collection": name,
        "generation": chosen.id,
        "replaced": replaced.id if replaced is not None else None,
        "behind": behind,
        "seconds": round(time.monotonic() - started, 3),
    }


def _complete(chosen: Generation | None, name: str, generation_id: int) -> Generation:
    if chosen is None:
        raise BadData(
            f"{name} has no generation {generation_id}", "it never was, or was dropped", f"See: ragworks generations {name}"
        )
    if chosen.state == "candidate":
        raise BadData(
            f"generation {generation_id} is a candidate", "it is asked by evaluations alone, and does not follow the source",
            "Promote its model, which builds a generation from it: see `ragworks models`",
        )  # fmt: skip
    if chosen.state == "building":
        raise BadData(
            f"generation {generation_id} is not complete", "a run is still to fill it", f"Finish it: ragworks index {name}"
        )
    return chosen

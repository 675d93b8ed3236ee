"""Puts another generation into service at once: nothing is embedded, queries change over between two statements."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from include.embedding.embedder import recorded_embedding
from include.embedding.presence import check_there
from include.errors import BadConfiguration, BadData, RagworksError
from include.store import changes, chunks, collections, deployed_embedders, generations, work_items

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from include.config import Settings
    from include.store.generations import Generation
    from include.store.pool import Connection, Pool


def activate(
    pool: Pool,
    name: str,
    generation_id: int,
    *,
    actor: str = "",
    reason: str = "",
    ended: str = "replaced",
    settings: Settings | None = None,
) -> dict[str, Any]:
    """Make a retired or refused generation live; where it was made by another embedder than the live one, that is deployed.

    :param actor: who wants it, and why, for the history of deployments.
    :param ended: what becomes of the deployment before, see :func:`include.store.deployments.put_live`.
    :param settings: to look whether the model that made it can still be asked; None: it is taken all the same.
    :return: collection, generation, replaced, behind (documents that the next run brings in step), seconds.
    :raises BadData: there is no such generation, or it is not complete.
    :raises BadConfiguration: its model is not there any more; nothing was changed.
    """
    with pool.connection() as connection:
        collection = collections.collection_id(connection, name)
        existing = generations.generations(connection, collection)
        connection.commit()
        _check_model(settings, existing, next((g for g in existing if g.id == generation_id), None))
        return _swap(connection, collection, name, generation_id, actor=actor, reason=reason, ended=ended)


def rollback(pool: Pool, name: str, *, since: datetime | None = None, settings: Settings | None = None) -> dict[str, Any]:
    """Go back to the generation that served last.

    :param since: when it was asked for: a swap after that is taken for this one, so that a retry does not go forward again.
    :param settings: as of :func:`activate`.
    :return: as :func:`activate`.
    :raises BadData: none is kept.
    :raises BadConfiguration: its model is not there any more; nothing was changed.
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
        connection.commit()
        _check_model(settings, existing, latest)
        return _swap(connection, collection, name, latest.id)


def _check_model(settings: Settings | None, existing: Sequence[Generation], chosen: Generation | None) -> None:
    """Refuse a generation that could answer nobody. One of the live one's model is as well off as that is."""
    live = next((g for g in existing if g.state == "live"), None)
    if settings is None or chosen is None or (live is not None and live.embedder == chosen.embedder):
        return
    try:
        check_there(chosen.embedder, recorded_embedding(chosen.spec), settings)
    except RagworksError as error:
        fix = f"{error.fix or 'Bring it back'}, or take it all the same with --force: then only words are found"
        raise BadConfiguration(
            f"generation {chosen.id} cannot be asked", f"{error.what}: {error.why}; nothing was changed", fix
        ) from error


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

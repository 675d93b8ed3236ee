"""Collections by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.errors import BadData

if TYPE_CHECKING:
    from include.store.pool import Connection


def ensure_collection(connection: Connection, name: str) -> int:
    """The id of the collection, made when it is new."""
    connection.execute("insert into ragworks.collection (name) values (%s) on conflict (name) do nothing", (name,))
    return collection_id(connection, name)


def collection_id(connection: Connection, name: str) -> int:
    """The id of a collection that was indexed at least once.

    :raises BadData: it never was.
    """
    row = connection.execute("select id from ragworks.collection where name = %s", (name,)).fetchone()
    if row is None:
        raise BadData(f"collection {name!r} has no index yet", "it was never run here", f"Run: ragworks index {name}")
    return int(row[0])


def collection_name(connection: Connection, collection: int) -> str:
    """The name of a collection by its id.

    :raises BadData: there is none.
    """
    row = connection.execute("select name from ragworks.collection where id = %s", (collection,)).fetchone()
    if row is None:
        raise BadData(f"there is no collection {collection}", "it was removed", "See: ragworks status")
    return str(row[0])


def held_spec(connection: Connection, collection: int) -> str | None:
    """Hash of settings whose generation was refused by a gate or rolled back by a person: not built again by itself."""
    row = connection.execute("select held_spec from ragworks.collection where id = %s", (collection,)).fetchone()
    return str(row[0]) if row and row[0] else None


def hold_spec(connection: Connection, collection: int, spec_hash: str | None) -> None:
    """Keep runs from building these settings, until they change or a person asks for it; None lifts it."""
    connection.execute("update ragworks.collection set held_spec = %s where id = %s", (spec_hash, collection))


def replace_scrub(connection: Connection, collection: int, fingerprint: str) -> bool:
    """Note what is taken out of the texts that are stored from now on.

    :return: whether it was something else before.
    """
    return (
        connection.execute(
            "update ragworks.collection set scrub = %s where id = %s and scrub <> %s", (fingerprint, collection, fingerprint)
        ).rowcount
        > 0
    )


def lock_collection(connection: Connection, collection: int) -> None:
    """Hold the collection until the transaction ends: plans and publications of one collection are serial.

    A publication that went between the steps of a plan could remove what the plan's gate is about to protect.
    """
    connection.execute("select pg_advisory_xact_lock(%s, %s)", (COLLECTION_LOCK, collection))
    lock_publication(connection, collection)


def lock_publication(connection: Connection, collection: int) -> None:
    """Hold the question which generation is live until the transaction ends, without waiting for plans."""
    connection.execute("select pg_advisory_xact_lock(%s, %s)", (PUBLICATION_LOCK, collection))


def lock_collection_session(connection: Connection, collection: int) -> None:
    """Hold the collection until :func:`unlock_collection_session` or the end of the connection."""
    connection.execute("select pg_advisory_lock(%s, %s)", (COLLECTION_LOCK, collection))
    connection.commit()


def unlock_collection_session(connection: Connection, collection: int) -> None:
    """Give back what :func:`lock_collection_session` took."""
    connection.execute("select pg_advisory_unlock(%s, %s)", (COLLECTION_LOCK, collection))
    connection.commit()


COLLECTION_LOCK = 0x5247  # advisory lock classes; the second key is the collection's id
PUBLICATION_LOCK = 0x5250

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


def lock_collection(connection: Connection, collection: int) -> None:
    """Hold the collection until the transaction ends: plans and publications of one collection are serial."""
    connection.execute("select pg_advisory_xact_lock(%s, %s)", (COLLECTION_LOCK, collection))


def lock_collection_session(connection: Connection, collection: int) -> None:
    """Hold the collection until :func:`unlock_collection_session` or the end of the connection."""
    connection.execute("select pg_advisory_lock(%s, %s)", (COLLECTION_LOCK, collection))
    connection.commit()


def unlock_collection_session(connection: Connection, collection: int) -> None:
    """Give back what :func:`lock_collection_session` took."""
    connection.execute("select pg_advisory_unlock(%s, %s)", (COLLECTION_LOCK, collection))
    connection.commit()


COLLECTION_LOCK = 0x5247  # advisory lock class; the second key is the collection's id

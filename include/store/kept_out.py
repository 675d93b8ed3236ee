"""Keeps what was forgotten out of what is still being written: a question, an answer, a report from before `forget`.

Apart from :mod:`include.store.forgotten`, which erases, so that what writes and what erases may both import it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include.store.naming import Name, documents_in, uri_hash, without

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from include.store.pool import Connection

FORGET_LOCK = 0x5246  # advisory lock class; the second key is the collection's id


def hold(connection: Connection, named: Mapping[int, Iterable[str]]) -> dict[int, set[str]]:
    """Which of these documents are forgotten, and let nobody forget one until the transaction ends: `forget` waits for it.

    Rows that are new must be written under it, for `forget` cannot see them before they are committed. It comes before any
    other lock of the transaction. An advisory lock and not rows of generations: publications hold those, and a server's role
    may not lock them.

    :param named: documents by collection.
    :return: by collection, those that must not be written; collections without any are left out.
    """
    if not named:
        return {}
    connection.execute(
        "select pg_advisory_xact_lock_shared(%s, one) from unnest(%s::int[]) as one", (FORGET_LOCK, sorted(named))
    )
    by_hash = {(collection, uri_hash(uri)): uri for collection, uris in named.items() for uri in uris}
    if not by_hash:
        return {}
    # A statement of its own: it sees what was forgotten while the one before waited.
    rows = connection.execute(
        "select f.collection_id, f.uri_hash from ragworks.forgotten f"
        " join unnest(%s::int[], %s::bytea[]) as n (collection_id, uri_hash) using (collection_id, uri_hash)",
        ([collection for collection, _ in by_hash], [hashed for _, hashed in by_hash]),
    )
    gone: dict[int, set[str]] = {}
    for collection, hashed in rows:
        gone.setdefault(int(collection), set()).add(by_hash[int(collection), bytes(hashed)])
    return gone


def wait_for_writers(connection: Connection, collection: int) -> None:
    """What `forget` does: nobody writes under :func:`hold` from here to the end of the transaction."""
    connection.execute("select pg_advisory_xact_lock(%s, %s)", (FORGET_LOCK, collection))


def is_forgotten(connection: Connection, collection: int, uris: Collection[str]) -> set[str]:
    """Those of these documents that must not come in; to be asked under the collection's lock, or under :func:`hold`.

    Who changes a row that is there may lock the row instead: `forget` locks it too.
    """
    by_hash = {uri_hash(uri): uri for uri in uris}
    rows = connection.execute(
        "select uri_hash from ragworks.forgotten where collection_id = %s and uri_hash = any(%s)", (collection, list(by_hash))
    )
    return {by_hash[bytes(row[0])] for row in rows}


def less_forgotten(connection: Connection, collection: int, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Reports and texts, by column, as :func:`include.store.naming.without` leaves them of forgotten documents.

    :param columns: of a row that the caller holds.
    """
    clean = dict(columns)
    for uri in sorted(is_forgotten(connection, collection, documents_in(list(clean.values())))):
        name = Name(uri)
        clean = {column: without(name, value) for column, value in clean.items()}
    return clean

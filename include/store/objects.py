"""Source objects: what the last listings showed, so that an unchanged file is never opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from include.store.pool import Connection


def known_objects(connection: Connection, collection: int) -> Iterator[tuple[str, str, bool]]:
    """(uri, fingerprint, present) in code point order, streamed."""
    with connection.cursor(name="known_objects") as cursor:
        cursor.itersize = 10_000
        cursor.execute(
            "select uri, fingerprint, state = 'present' from ragworks.source_object where collection_id = %s order by uri",
            (collection,),
        )
        yield from cursor


def save_objects(connection: Connection, collection: int, objects: Sequence[tuple[str, str]]) -> None:
    """Remember (uri, fingerprint) of objects whose documents are all in."""
    connection.execute(
        "insert into ragworks.source_object (collection_id, uri, fingerprint)"
        " select %s, uri, fingerprint from unnest(%s::text[], %s::text[]) as new (uri, fingerprint)"
        " on conflict (collection_id, uri) do update set fingerprint = excluded.fingerprint, state = 'present'",
        (collection, [uri for uri, _ in objects], [fingerprint for _, fingerprint in objects]),
    )


def announce_objects(connection: Connection, collection: int, uris: Sequence[str]) -> None:
    """Make rows for objects that are about to be read: an empty fingerprint matches no listing.

    Also for known ones: a reading that stops half-way must be done again, even if the file has its old stamp by then.
    """
    connection.execute(
        "insert into ragworks.source_object (collection_id, uri, fingerprint)"
        " select %s, uri, '' from unnest(%s::text[]) as new (uri) on conflict (collection_id, uri) do update"
        " set fingerprint = ''",
        (collection, list(uris)),
    )


def mark_objects(connection: Connection, collection: int, uris: Iterable[str], *, present: bool) -> None:
    """Note that objects vanished from the listing, or are back unchanged."""
    connection.execute(
        "update ragworks.source_object set state = %s where collection_id = %s and uri = any(%s)",
        ("present" if present else "vanished", collection, list(uris)),
    )


def forget_fingerprints(connection: Connection, collection: int, uris: Sequence[str] | None = None) -> int:
    """Have objects read again by the next run: those given, or all.

    :return: how many.
    """
    return connection.execute(
        "update ragworks.source_object set fingerprint = '' where collection_id = %s and (%s::text[] is null or uri = any(%s))",
        (collection, uris, uris),
    ).rowcount


def fingerprints(connection: Connection, collection: int, uris: Sequence[str]) -> dict[str, str]:
    """The stored fingerprints of these objects, where they are listed."""
    rows = connection.execute(
        "select uri, fingerprint from ragworks.source_object where collection_id = %s and uri = any(%s) and state = 'present'",
        (collection, list(uris)),
    )
    return {str(uri): str(fingerprint) for uri, fingerprint in rows}


def count_present(connection: Connection, collection: int) -> int:
    """Objects that the last listings showed."""
    row = connection.execute(
        "select count(*) from ragworks.source_object where collection_id = %s and state = 'present'", (collection,)
    ).fetchone()
    return int(row[0]) if row else 0

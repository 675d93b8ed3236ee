"""Source objects: what the last listings showed, so that an unchanged file is never opened.

What a run is to read waits in a temporary table of its session: a listing may be of any size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from include.store.pool import Connection

LISTED_BATCH = 10_000


class Known(NamedTuple):
    """What the last listings showed of an object; ``due`` asks for another reading although nothing changed."""

    uri: str
    fingerprint: str
    present: bool
    due: bool = False


@dataclass(frozen=True, slots=True)
class ToRead:
    """An object that the run has to read.

    :param number: its place in the order of reading.
    :param attempts: readings of it that began and never ended.
    """

    number: int
    uri: str
    fingerprint: str
    size: int
    attempts: int


def known_objects(connection: Connection, collection: int) -> Iterator[Known]:
    """What is known of every object, in code point order, streamed; due are those with refused rows to be tried again."""
    with connection.cursor(name="known_objects") as cursor:
        cursor.itersize = LISTED_BATCH
        cursor.execute(
            "with due as (select distinct object_uri from ragworks.quarantine where collection_id = %(c)s"
            "  and resolved_at is null and stage = 'document' and retry_at <= now())"
            " select o.uri, o.fingerprint, o.state = 'present', due.object_uri is not null from ragworks.source_object o"
            " left join due on due.object_uri = o.uri where collection_id = %(c)s order by o.uri",
            {"c": collection},
        )
        for row in cursor:
            yield Known(*row)


def begin_reading(connection: Connection) -> None:
    """Make the session's empty tables: objects to read, in their order, and the documents that they show."""
    connection.execute("drop table if exists pg_temp.to_read, pg_temp.seen")
    connection.execute(
        "create temp table to_read (number bigint generated always as identity primary key,"
        ' uri text collate "C" not null unique, fingerprint text not null, size bigint not null, kind text not null)'
    )
    connection.execute('create temp table seen (uri text collate "C" primary key, object_uri text collate "C" not null)')


def add_to_read(connection: Connection, collection: int, listed: Sequence[tuple[str, str, int, str]]) -> int:
    """Note (uri, fingerprint, size, why) of objects that are to be read; what a person had forgotten is left out.

    :return: how many were left out.
    """
    return (
        len(listed)
        - connection.execute(
            "insert into to_read (uri, fingerprint, size, kind)"
            " select uri, fingerprint, size, kind from unnest(%s::text[], %s::text[], %s::bigint[], %s::text[])"
            "  with ordinality as new (uri, fingerprint, size, kind, n)"
            " where not exists (select from ragworks.forgotten f where f.collection_id = %s"
            "  and f.uri_hash = sha256(convert_to(new.uri, 'UTF8'))) order by n",
            (*([row[column] for row in listed] for column in range(4)), collection),
        ).rowcount
    )


def any_without_document(connection: Connection, collection: int) -> bool:
    """Whether the source has an object that holds no document: where something was forgotten, perhaps for that."""
    row = connection.execute(
        "select exists (select from ragworks.source_object o where o.collection_id = %(c)s and o.state = 'present'"
        " and not exists (select from ragworks.document d where d.collection_id = %(c)s and d.object_uri = o.uri"
        "  and d.state <> 'deleted')) and exists (select from ragworks.forgotten where collection_id = %(c)s)",
        {"c": collection},
    ).fetchone()
    return bool(row and row[0])


def count_by_kind(connection: Connection) -> dict[str, int]:
    """Objects to be read, by why."""
    rows = connection.execute("select kind, count(*) from to_read group by kind order by kind")
    return {str(kind): int(count) for kind, count in rows}


def add_again(connection: Connection, collection: int, uris: Sequence[str]) -> int:
    """Note unchanged objects that must be read because of what others showed; those of this run are left out.

    :return: how many were added.
    """
    return connection.execute(
        "insert into to_read (uri, fingerprint, size, kind)"
        " select uri, fingerprint, 0, 'duplicates' from ragworks.source_object"
        " where collection_id = %s and uri = any(%s) and state = 'present' and fingerprint <> '' order by uri"
        " on conflict do nothing",
        (collection, list(uris)),
    ).rowcount


def announce(connection: Connection, collection: int, after: int) -> None:
    """Make rows for the objects beyond number ``after``: an empty fingerprint matches no listing.

    Also for known ones: a reading that stops half-way must be done again, even if the file has its old stamp by then.
    """
    connection.execute(
        "insert into ragworks.source_object (collection_id, uri, fingerprint)"
        " select %s, uri, '' from to_read where number > %s order by uri"
        " on conflict (collection_id, uri) do update set fingerprint = ''",
        (collection, after),
    )


def count_to_read(connection: Connection, after: int) -> int:
    """Objects that wait beyond a number."""
    row = connection.execute("select count(*) from to_read where number > %s", (after,)).fetchone()
    return int(row[0]) if row else 0


def next_to_read(connection: Connection, collection: int, after: int, limit: int) -> list[ToRead]:
    """The next objects beyond number ``after``, in their order."""
    rows = connection.execute(
        "select r.number, r.uri, r.fingerprint, r.size, o.attempts from to_read r"
        " join ragworks.source_object o on o.collection_id = %s and o.uri = r.uri"
        " where r.number > %s order by r.number limit %s",
        (collection, after, limit),
    )
    return [ToRead(*row) for row in rows]


def begin(connection: Connection, collection: int, uris: Sequence[str]) -> None:
    """Count a reading of these objects as begun."""
    connection.execute(
        "update ragworks.source_object set attempts = attempts + 1 where collection_id = %s and uri = any(%s)",
        (collection, list(uris)),
    )


def release(connection: Connection, collection: int, uris: Sequence[str]) -> None:
    """Take back the count of objects whose reading was ended in order, though not completed."""
    connection.execute(
        "update ragworks.source_object set attempts = greatest(attempts - 1, 0) where collection_id = %s and uri = any(%s)",
        (collection, list(uris)),
    )


def is_to_be_read(connection: Connection, uris: Sequence[str]) -> set[str]:
    """Which of these objects this run reads."""
    rows = connection.execute("select uri from to_read where uri = any(%s)", (list(uris),))
    return {str(row[0]) for row in rows}


def show_documents(connection: Connection, shown: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Note (document, object) of a batch that was read.

    :return: the object that showed each of these documents first in this run.
    """
    uris = [uri for uri, _ in shown]
    connection.execute(
        "insert into seen (uri, object_uri) select * from unnest(%s::text[], %s::text[]) on conflict do nothing",
        (uris, [object_uri for _, object_uri in shown]),
    )
    rows = connection.execute("select uri, object_uri from seen where uri = any(%s)", (uris,))
    return {str(uri): str(object_uri) for uri, object_uri in rows}


def mark_unseen(connection: Connection, collection: int, object_uris: Sequence[str]) -> int:
    """Documents that a complete reading of their objects did not show; nothing is removed before publish.

    :return: how many.
    """
    return connection.execute(
        "update ragworks.document d set state = 'vanished', updated_at = now()"
        " where collection_id = %s and object_uri = any(%s) and state = 'present'"
        " and not exists (select from seen s where s.uri = d.uri and s.object_uri = d.object_uri)",
        (collection, list(object_uris)),
    ).rowcount


def mark_unread(connection: Connection, collection: int) -> None:
    """Let documents go whose present version could not be read, instead of keeping the last good one."""
    connection.execute(
        "update ragworks.document d set state = 'vanished', updated_at = now() from ragworks.quarantine q"
        " where d.collection_id = %(c)s and d.state = 'present' and q.collection_id = %(c)s and q.resolved_at is null"
        " and q.stage = 'document' and (q.uri = d.uri or q.object_uri = d.object_uri"
        "  and (q.uri = q.object_uri or starts_with(q.uri, q.object_uri || '#'))"
        "  and not exists (select from seen s where s.uri = d.uri))",
        {"c": collection},
    )


def save_objects(connection: Connection, collection: int, read: Sequence[ToRead], *, attempts: int = 0) -> None:
    """Remember the fingerprints of objects whose documents are all in.

    :param attempts: what to count from the next time.
    """
    connection.execute(
        "update ragworks.source_object o set fingerprint = new.fingerprint, state = 'present', attempts = %s"
        " from unnest(%s::text[], %s::text[]) as new (uri, fingerprint)"
        " where o.collection_id = %s and o.uri = new.uri",
        (attempts, [o.uri for o in read], [o.fingerprint for o in read], collection),
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


def drop_vanished(connection: Connection, collection: int) -> None:
    """Drop objects that left the listing and of which no document is kept: one that comes back must be read."""
    connection.execute(
        "delete from ragworks.source_object o where collection_id = %(c)s and state = 'vanished' and not exists"
        " (select from ragworks.document d where d.collection_id = %(c)s and d.object_uri = o.uri and d.state <> 'deleted')",
        {"c": collection},
    )

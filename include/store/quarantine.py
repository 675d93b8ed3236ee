"""Quarantine: rows that were refused, with the expectation that failed, open until they pass or leave the source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg.rows import class_row

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from include.store.pool import Connection


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refused row; ``locator`` tells rows of one uri apart ("line 17"), chunks are refused by a generation."""

    object_uri: str
    uri: str
    locator: str
    stage: str
    expectation: str
    detail: str
    generation_id: int | None = None


@dataclass(frozen=True, slots=True)
class QuarantineRow:
    """An open row, as the command line shows it."""

    uri: str
    locator: str
    stage: str
    expectation: str
    detail: str
    attempts: int
    acknowledged: bool
    first_seen: datetime
    last_seen: datetime
    retry_at: datetime | None


FIRST_RETRY, LAST_RETRY = "10 minutes", "1 day"  # between two tries: doubled each time, up to the last
_BACKOFF = f"now() + least(interval '{LAST_RETRY}', interval '{FIRST_RETRY}' * power(2, least({{attempts}}, 20) - 1))"
# Of a document that is gone from the source, too, as long as its removal is not published.
_REJECTION = (
    "select from ragworks.rejection r join ragworks.desired_document d on d.id = r.document_id"
    " and d.content_hash = r.content_hash where r.generation_id = q.generation_id and d.uri = q.uri"
)
_SELECT_OPEN = (
    "select uri, locator, stage, expectation, detail, attempts, acknowledged_at is not null as acknowledged, first_seen,"
    " last_seen, retry_at from ragworks.quarantine where resolved_at is null"
)


def save_refusals(connection: Connection, collection: int, run_id: int, refusals: Sequence[Refusal]) -> None:
    """Open rows, or note that open ones failed again."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into ragworks.quarantine (collection_id, object_uri, uri, locator, stage, expectation, detail,"
            " generation_id, first_run, last_run, retry_at) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s,"
            f" {_BACKOFF.format(attempts=1)})"
            " on conflict (collection_id, object_uri, uri, locator, coalesce(generation_id, 0)) where resolved_at is null"
            " do update set stage = excluded.stage, expectation = excluded.expectation, detail = excluded.detail,"
            " attempts = quarantine.attempts + 1, last_run = excluded.last_run,"
            f" last_seen = now(), retry_at = {_BACKOFF.format(attempts='quarantine.attempts + 1')}",
            [
                (
                    collection,
                    r.object_uri,
                    r.uri,
                    r.locator,
                    r.stage,
                    r.expectation,
                    r.detail,
                    r.generation_id,
                    run_id,
                    run_id,
                )
                for r in refusals
            ],
        )


def resolve_objects(connection: Connection, collection: int, since: datetime, object_uris: Sequence[str]) -> None:
    """Close the rows of completely read objects that did not fail again.

    A row that was acknowledged passes that on to one of the same object and expectation that failed now: a line inserted
    above it gives a bad row another locator, and does not make it a new one.

    :param since: when this reading began; rows that failed in it are younger.
    """
    connection.execute(
        "with gone as (update ragworks.quarantine set resolved_at = now() where collection_id = %(c)s and stage = 'document'"
        "  and object_uri = any(%(objects)s) and resolved_at is null and last_seen < %(since)s"
        "  returning object_uri, expectation, acknowledged_at),"
        " credit as (select object_uri, expectation, count(*) as n from gone where acknowledged_at is not null group by 1, 2),"
        " fresh as (select id, object_uri, expectation,"
        "  row_number() over (partition by object_uri, expectation order by id) as n from ragworks.quarantine"
        "  where collection_id = %(c)s and object_uri = any(%(objects)s) and resolved_at is null"
        "  and acknowledged_at is null and last_seen >= %(since)s)"
        " update ragworks.quarantine q set acknowledged_at = now() from fresh join credit using (object_uri, expectation)"
        " where q.id = fresh.id and fresh.n <= credit.n",
        {"c": collection, "objects": list(object_uris), "since": since},
    )


def resolve_documents(connection: Connection, generation_id: int, uris: Sequence[str]) -> None:
    """Close a generation's rows of documents whose chunks passed; not where an earlier version's did, in place of theirs."""
    connection.execute(
        "update ragworks.quarantine q set resolved_at = now() where generation_id = %s and uri = any(%s)"
        f" and resolved_at is null and not exists ({_REJECTION})",
        (generation_id, list(uris)),
    )


def retry_due(connection: Connection, collection: int) -> int:
    """Let contents be tried again whose chunks a generation refused, when their time has come; their rows stay open.

    :return: how many.
    """
    return connection.execute(
        "update ragworks.rejection r set again = true, earlier_hash = null from ragworks.quarantine q, ragworks.document d"
        " where q.collection_id = %s and q.stage = 'chunk' and q.resolved_at is null and q.retry_at <= now()"
        " and r.generation_id = q.generation_id and d.id = r.document_id and d.collection_id = q.collection_id"
        " and d.uri = q.uri and not r.again",
        (collection,),
    ).rowcount


def make_due(connection: Connection, collection: int) -> None:
    """Have the next run try refused chunks again."""
    connection.execute(
        "update ragworks.quarantine set retry_at = now() where collection_id = %s and stage = 'chunk' and resolved_at is null",
        (collection,),
    )


def resolve_outdated(connection: Connection, collection: int) -> None:
    """Close the rows of refused chunks whose document has another content by now, or was removed.

    One that is to be tried again stays open until it passes, with its count of tries. A refusal without an open row is
    forgotten: nobody would see it, and nothing would try that content again.
    """
    connection.execute(
        "update ragworks.quarantine q set resolved_at = now()"
        f" where collection_id = %s and stage = 'chunk' and resolved_at is null and not exists ({_REJECTION})",
        (collection,),
    )
    connection.execute(
        "delete from ragworks.rejection r using ragworks.document d where d.id = r.document_id and d.collection_id = %s"
        " and not exists (select from ragworks.quarantine q where q.collection_id = d.collection_id and q.uri = d.uri"
        "  and q.stage = 'chunk' and q.generation_id = r.generation_id and q.resolved_at is null)",
        (collection,),
    )


def resolve_vanished(connection: Connection, collection: int) -> None:
    """Close the rows of objects that left the source, and have those read again should they return.

    Only where their removal is published: a listing that the gate refused may have missed them.
    """
    connection.execute(
        "with gone as (update ragworks.quarantine q set resolved_at = now() from ragworks.source_object o"
        "  where q.collection_id = %(c)s and q.resolved_at is null and o.collection_id = %(c)s and o.uri = q.object_uri"
        "  and o.state = 'vanished' returning o.uri)"
        " update ragworks.source_object o set fingerprint = '' from gone where o.collection_id = %(c)s and o.uri = gone.uri",
        {"c": collection},
    )


def orphaned_duplicates(connection: Connection, collection: int) -> list[str]:
    """Objects that hold a row refused as a duplicate whose uri no other object holds any more: they must be read again."""
    rows = connection.execute(
        "select distinct q.object_uri from ragworks.quarantine q join ragworks.source_object o on o.uri = q.object_uri"
        " and o.collection_id = q.collection_id and o.state = 'present' where q.collection_id = %(c)s and q.resolved_at is null"
        " and q.expectation = 'uri_unique' and not exists (select from ragworks.desired_document d"
        "  where d.collection_id = %(c)s and d.uri = q.uri and d.wanted)",
        {"c": collection},
    )
    return [str(row[0]) for row in rows]


def acknowledge(connection: Connection, collection: int, generation_id: int) -> None:
    """A run was published without the open rows: they no longer count as part of a batch.

    :param generation_id: what was published; what another one refused, it is still to be judged by.
    """
    connection.execute(
        "update ragworks.quarantine set acknowledged_at = now() where collection_id = %s and resolved_at is null"
        " and acknowledged_at is null and (generation_id is null or generation_id = %s)",
        (collection, generation_id),
    )


def acknowledge_shown(connection: Connection, collection: int, before: datetime | None = None) -> int:
    """A person has seen the open rows: the next run goes on without them.

    :param before: of those that were refused by then; None: all.
    :return: rows that counted until now.
    """
    return connection.execute(
        "update ragworks.quarantine set acknowledged_at = now() where collection_id = %s and resolved_at is null"
        f" and acknowledged_at is null and {_ASKED} and (%s::timestamptz is null or first_seen < %s)",
        (collection, before, before),
    ).rowcount


# What was refused by an index that answers nobody, or only evaluations, is missing from no answer.
_ASKED = (
    "(generation_id is null or exists (select from ragworks.generation g where g.id = quarantine.generation_id"
    " and g.state in ('live', 'building')))"
)
_STILL_LISTED = (
    "not exists (select from ragworks.source_object o where o.collection_id = quarantine.collection_id"
    " and o.uri = quarantine.object_uri and o.state = 'vanished')"
)


def open_rows(connection: Connection, collection: int) -> list[QuarantineRow]:
    """All open rows of a collection, by uri."""
    with connection.cursor(row_factory=class_row(QuarantineRow)) as cursor:
        statement = f"{_SELECT_OPEN} and collection_id = %s and {_ASKED} order by uri, locator"
        return cursor.execute(statement, (collection,)).fetchall()


def open_objects(connection: Connection, collection: int) -> list[str]:
    """The objects that hold open rows."""
    rows = connection.execute(
        "select distinct object_uri from ragworks.quarantine where collection_id = %s and resolved_at is null",
        (collection,),
    )
    return [str(row[0]) for row in rows]


def count_open(connection: Connection, collection: int, generation_id: int | None = None) -> tuple[int, int]:
    """(open rows, those of them that count against publishing this generation: not of what leaves the source)."""
    row = connection.execute(
        f"select count(*) filter (where {_ASKED}), count(*) filter (where acknowledged_at is null"
        f"  and (generation_id is null or generation_id = %s) and {_STILL_LISTED})"
        " from ragworks.quarantine where collection_id = %s and resolved_at is null",
        (generation_id, collection),
    ).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def rows_of_run(connection: Connection, run_id: int) -> list[QuarantineRow]:
    """Open rows that failed in this run."""
    with connection.cursor(row_factory=class_row(QuarantineRow)) as cursor:
        return cursor.execute(_SELECT_OPEN + " and last_run = %s order by uri, locator", (run_id,)).fetchall()

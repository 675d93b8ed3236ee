"""Quarantine: rows that were refused, with the expectation that failed, open until they pass or leave the source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg.rows import class_row

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from include.store.pool import Connection


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refused row; ``locator`` tells rows of one uri apart ("line 17")."""

    object_uri: str
    uri: str
    locator: str
    stage: str
    expectation: str
    detail: str
    content_hash: UUID | None = None


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


_SELECT_OPEN = (
    "select uri, locator, stage, expectation, detail, attempts, acknowledged_at is not null as acknowledged, first_seen,"
    " last_seen from ragworks.quarantine where resolved_at is null"
)


def save_refusals(connection: Connection, collection: int, run_id: int, refusals: Sequence[Refusal]) -> None:
    """Open rows, or note that open ones failed again."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into ragworks.quarantine (collection_id, object_uri, uri, locator, stage, expectation, detail,"
            " content_hash, first_run, last_run) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
            " on conflict (collection_id, object_uri, uri, locator) where resolved_at is null do update set"
            " stage = excluded.stage, expectation = excluded.expectation, detail = excluded.detail,"
            " content_hash = excluded.content_hash, attempts = quarantine.attempts + 1, last_run = excluded.last_run,"
            " last_seen = now()",
            [
                (
                    collection,
                    r.object_uri,
                    r.uri,
                    r.locator,
                    r.stage,
                    r.expectation,
                    r.detail,
                    r.content_hash,
                    run_id,
                    run_id,
                )
                for r in refusals
            ],
        )


def resolve_objects(connection: Connection, collection: int, run_id: int, object_uris: Sequence[str]) -> None:
    """Close the rows of completely read objects that did not fail again in this run."""
    connection.execute(
        "update ragworks.quarantine q set resolved_at = now() where collection_id = %s and object_uri = any(%s)"
        " and resolved_at is null and last_run <> %s and (stage = 'document' or not exists (select from ragworks.document d"
        "  where d.collection_id = q.collection_id and d.uri = q.uri and d.content_hash = q.content_hash))",
        (collection, list(object_uris), run_id),
    )


def resolve_documents(connection: Connection, collection: int, uris: Sequence[str]) -> None:
    """Close the chunk rows of documents whose chunks passed."""
    connection.execute(
        "update ragworks.quarantine set resolved_at = now() where collection_id = %s and stage = 'chunk' and uri = any(%s)"
        " and resolved_at is null",
        (collection, list(uris)),
    )


def resolve_vanished(connection: Connection, collection: int) -> None:
    """Close the rows of objects that left the source."""
    connection.execute(
        "update ragworks.quarantine q set resolved_at = now() where collection_id = %s and resolved_at is null and not exists"
        " (select from ragworks.source_object o where o.collection_id = q.collection_id and o.uri = q.object_uri"
        "  and o.state = 'present')",
        (collection,),
    )


def acknowledge(connection: Connection, collection: int) -> None:
    """A run was published without the open rows: they no longer count as part of a batch."""
    connection.execute(
        "update ragworks.quarantine set acknowledged_at = now() where collection_id = %s and resolved_at is null"
        " and acknowledged_at is null",
        (collection,),
    )


def open_rows(connection: Connection, collection: int) -> list[QuarantineRow]:
    """All open rows of a collection, by uri."""
    with connection.cursor(row_factory=class_row(QuarantineRow)) as cursor:
        return cursor.execute(_SELECT_OPEN + " and collection_id = %s order by uri, locator", (collection,)).fetchall()


def open_objects(connection: Connection, collection: int) -> list[str]:
    """The objects that hold open rows."""
    rows = connection.execute(
        "select distinct object_uri from ragworks.quarantine where collection_id = %s and resolved_at is null",
        (collection,),
    )
    return [str(row[0]) for row in rows]


def count_open(connection: Connection, collection: int) -> tuple[int, int]:
    """(open rows, open rows that count against the next publication)."""
    row = connection.execute(
        "select count(*), count(*) filter (where acknowledged_at is null) from ragworks.quarantine"
        " where collection_id = %s and resolved_at is null",
        (collection,),
    ).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def rows_of_run(connection: Connection, run_id: int) -> list[QuarantineRow]:
    """Open rows that failed in this run."""
    with connection.cursor(row_factory=class_row(QuarantineRow)) as cursor:
        return cursor.execute(_SELECT_OPEN + " and last_run = %s order by uri, locator", (run_id,)).fetchall()

"""Runs: what each was asked, what it planned, what it did, and how it ended."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from include.errors import BadData

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from include.store.pool import Connection


@dataclass(frozen=True, slots=True)
class Run:
    """A row of ragworks.run.

    :param estimate: texts, tokens, seconds and cost that the plan expected (:mod:`include.indexing.estimate`).
    :param reads: objects read, by why.
    :param tokens: tokens embedded.
    :param scrubbed: personal data taken out of what was read, by kind.
    :param seconds: wall time of each step.
    """

    id: int
    collection_id: int
    key: str
    mode: str
    allow_deletes: bool
    state: str
    generation_id: int | None
    plan: dict[str, Any] | None
    estimate: dict[str, Any] | None
    reads: dict[str, int]
    embedded: int
    tokens: int
    reused: int
    written: int
    deleted: int
    scrubbed: dict[str, int]
    seconds: dict[str, float]
    error: str | None
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class RunDocument:
    """Why a document was in a run, and what became of it."""

    uri: str
    action: str
    reason: str
    chunks: int | None
    embedded: int | None


_SELECT = (
    "select id, collection_id, key, mode, allow_deletes, state, generation_id, plan, estimate, reads, embedded,"
    " tokens, reused, written, deleted, scrubbed, seconds, error, started_at, finished_at from ragworks.run"
)


# A plan says what is left to do: beside it would stand what was done for an earlier one that was carried out.
_COUNTED_ANEW = ", ".join(
    f"{column} = case when run.state in ('done', 'planned') then {empty} else run.{column} end"
    for column, empty in [
        *((count, "0") for count in ("embedded", "tokens", "reused", "written", "deleted")),
        *((parts, "'{}'::jsonb") for parts in ("seconds", "scrubbed")),
    ]
)
_DONE = """
with live as (select id from ragworks.generation where collection_id = %(c)s and state = 'live'),
left_over as materialized (select c.uri from live, ragworks.changes(%(c)s, live.id) c)
select d.action, count(*) from ragworks.run_document d where d.run_id = %(run)s and d.action <> 'quarantined'
and not exists (select from left_over l where l.uri = d.uri)
and not (d.action in ('added', 'changed') and exists (select from ragworks.quarantine q
  where q.collection_id = %(c)s and q.uri = d.uri and q.resolved_at is null
  and (q.generation_id is null or q.generation_id in (select id from live))))
group by d.action
"""


def database_time(connection: Connection) -> datetime:
    """The database's clock at the start of the transaction."""
    row = connection.execute("select now()").fetchone()
    return cast("datetime", row[0] if row else None)


def start_run(connection: Connection, collection: int, key: str, *, mode: str, allow_deletes: bool) -> Run:
    """The run of this key: a retry of the same key goes on with the same row, and counts anew if it had been finished."""
    connection.execute(
        "insert into ragworks.run (collection_id, key, mode, allow_deletes) values (%s, %s, %s, %s)"
        " on conflict (collection_id, key) do update set mode = excluded.mode, allow_deletes = excluded.allow_deletes,"
        f" {_COUNTED_ANEW}, state = 'running', error = null, finished_at = null",
        (collection, key, mode, allow_deletes),
    )
    return run_by_key(connection, collection, key)


def run_by_key(connection: Connection, collection: int, key: str) -> Run:
    """The run of this key.

    :raises BadData: its plan step never ran.
    """
    with connection.cursor(row_factory=class_row(Run)) as cursor:
        run = cursor.execute(_SELECT + " where collection_id = %s and key = %s", (collection, key)).fetchone()
    if run is None:
        raise BadData(f"run {key!r} does not exist", "its plan step never ran", "Run the plan step first")
    return run


def run_by_id(connection: Connection, collection: int, run_id: int) -> Run | None:
    """A run of this collection."""
    with connection.cursor(row_factory=class_row(Run)) as cursor:
        return cursor.execute(_SELECT + " where collection_id = %s and id = %s", (collection, run_id)).fetchone()


def recent_runs(connection: Connection, collection: int, limit: int) -> list[Run]:
    """The newest runs, newest first."""
    with connection.cursor(row_factory=class_row(Run)) as cursor:
        return cursor.execute(_SELECT + " where collection_id = %s order by id desc limit %s", (collection, limit)).fetchall()


def save_plan(
    connection: Connection,
    run_id: int,
    generation_id: int | None,
    plan: Mapping[str, Any],
    *,
    estimate: Mapping[str, Any],
    reads: Mapping[str, int],
) -> None:
    """Keep what the run is going to do, and what it read to know it."""
    connection.execute(
        "update ragworks.run set generation_id = %s, plan = %s, estimate = %s, reads = %s where id = %s",
        (generation_id, Jsonb(dict(plan)), Jsonb(dict(estimate)), Jsonb(dict(reads)), run_id),
    )


def save_done(connection: Connection, run: Run) -> None:
    """Keep, beside the plan, how many of its documents are as the source wants them, by action: after a publication."""
    rows = connection.execute(_DONE, {"c": run.collection_id, "run": run.id})
    done = {str(action): int(count) for action, count in rows}
    connection.execute(
        "update ragworks.run set plan = plan || jsonb_build_object('done', %s::jsonb) where id = %s", (Jsonb(done), run.id)
    )


def save_run_documents(connection: Connection, run_id: int, rows: Iterable[tuple[str, str, str]]) -> dict[str, int]:
    """Keep (uri, action, reason) of every document in the run, streamed.

    :return: documents by action.
    """
    counts: Counter[str] = Counter()
    with (
        connection.cursor() as cursor,
        cursor.copy("copy ragworks.run_document (run_id, uri, action, reason) from stdin") as copy,
    ):
        for uri, action, reason in rows:
            counts[action] += 1
            copy.write_row((run_id, uri, action, reason))
    return dict(counts)


def add_quarantined(connection: Connection, run_id: int, rows: Iterable[tuple[str, str]]) -> None:
    """Keep (uri, reason) of refused documents; one that is in the run for another reason too has both."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into ragworks.run_document (run_id, uri, action, reason) values (%s, %s, 'quarantined', %s)"
            " on conflict (run_id, uri) do update set reason = run_document.reason || '; quarantined: ' || excluded.reason",
            [(run_id, uri, reason) for uri, reason in rows],
        )


def clear_run_documents(connection: Connection, run_id: int) -> None:
    """Forget the entries of an earlier try of this run's plan step."""
    connection.execute("delete from ragworks.run_document where run_id = %s", (run_id,))


def save_outcomes(connection: Connection, outcomes: list[tuple[int, int, int, str]]) -> None:
    """Note (chunks, embedded, run, uri) of documents as their chunks are written."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "update ragworks.run_document set chunks = %s, embedded = %s where run_id = %s and uri = %s", outcomes
        )


def run_documents(connection: Connection, run_id: int, limit: int | None = None) -> list[RunDocument]:
    """What became of each document of a run, by uri; the first ``limit`` of them."""
    with connection.cursor(row_factory=class_row(RunDocument)) as cursor:
        return cursor.execute(
            "select uri, action, reason, chunks, embedded from ragworks.run_document where run_id = %s order by uri limit %s",
            (run_id, limit),
        ).fetchall()


def count_documents(connection: Connection, run_id: int) -> int:
    """Documents in a run."""
    row = connection.execute("select count(*) from ragworks.run_document where run_id = %s", (run_id,)).fetchone()
    return int(row[0]) if row else 0


def deleted_uris(connection: Connection, run_id: int) -> set[str]:
    """The documents that the plan of a run deletes."""
    rows = connection.execute("select uri from ragworks.run_document where run_id = %s and action = 'deleted'", (run_id,))
    return {str(row[0]) for row in rows}


def add_counts(
    connection: Connection,
    run_id: int,
    *,
    embedded: int = 0,
    tokens: int = 0,
    reused: int = 0,
    written: int = 0,
    deleted: int = 0,
) -> None:
    """Add to the run's counters, in the transaction that did the work."""
    connection.execute(
        "update ragworks.run set embedded = embedded + %s, tokens = tokens + %s, reused = reused + %s, written = written + %s,"
        " deleted = deleted + %s where id = %s",
        (embedded, tokens, reused, written, deleted, run_id),
    )


def add_scrubbed(connection: Connection, run_id: int, found: Mapping[str, int]) -> None:
    """Add to the run's counts of personal data taken out."""
    for kind, count in found.items():
        connection.execute(
            "update ragworks.run set scrubbed = scrubbed || jsonb_build_object(%(k)s::text,"
            " coalesce((scrubbed ->> %(k)s)::int, 0) + %(n)s) where id = %(run)s",
            {"k": kind, "n": count, "run": run_id},
        )


def add_seconds(connection: Connection, run_id: int, step: str, seconds: float) -> None:
    """Add wall time to a step of the run."""
    connection.execute(
        "update ragworks.run set seconds = seconds || jsonb_build_object(%s::text,"
        " round((coalesce((seconds ->> %s)::numeric, 0) + %s::numeric), 3)) where id = %s",
        (step, step, seconds, run_id),
    )


def finish_run(connection: Connection, run_id: int, state: str, error: str | None = None) -> None:
    """Close the run: done, planned or failed."""
    connection.execute(
        "update ragworks.run set state = %s, error = %s, finished_at = now() where id = %s", (state, error, run_id)
    )


def ended_badly(connection: Connection, run: Run) -> bool:
    """Whether the run before this one did not publish what it brought: something of it may be left."""
    row = connection.execute(
        "select state in ('running', 'failed') from ragworks.run where collection_id = %s and id < %s"
        " and mode not in ('plan', 'candidate') order by id desc limit 1",
        (run.collection_id, run.id),
    ).fetchone()
    return bool(row and row[0])


def supersede_running(connection: Connection, run: Run) -> None:
    """Close older runs that died without a word: what they had staged is published by this one."""
    connection.execute(
        "update ragworks.run set state = 'failed', error = %s, finished_at = now()"
        " where collection_id = %s and id < %s and state = 'running' and mode <> 'candidate'",
        (f"it stopped without finishing; run {run.id} took its work over", run.collection_id, run.id),
    )

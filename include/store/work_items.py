"""The shared queue: documents whose chunks a generation still lacks, claimed by any number of workers.

A claim holds while its worker lives: every worker keeps a session advisory lock, which the server drops when the
connection ends, so the items of a killed worker are free at once. The lease bounds a worker that hangs: one that works
renews it (:mod:`include.indexing.lease`), however long a batch takes.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg.rows import class_row

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from uuid import UUID

    from include.store.pool import Connection, Pool

LEASE_SECONDS = 1800
SUSPECT_ATTEMPTS, MAX_ATTEMPTS = 2, 5  # workers that died over an item: after so many it is worked on alone, or refused
WORKER_LOCK = 0x5257  # advisory lock class; the second key is the worker's id

_LIVES = (
    "exists (select from pg_locks l where l.locktype = 'advisory'"
    f" and l.classid = {WORKER_LOCK} and l.objid = worker::oid and l.granted"
    " and l.database = (select oid from pg_database where datname = current_database()))"
)
_FREE = f"(worker is null or lease_until < now() or not {_LIVES})"


@dataclass(frozen=True, slots=True)
class WorkItem:
    """A document to chunk and embed.

    :param attempts: this claim, and those before it whose worker died; one that only hung is not counted.
    """

    document_id: int
    uri: str
    content_hash: UUID
    characters: int
    run_id: int
    attempts: int


@dataclass(frozen=True, slots=True)
class Worker:
    """Who claims.

    :param connection: the one whose end frees what it claimed; for nothing but :func:`renew`.
    """

    id: int
    connection: Connection


@contextmanager
def worker(pool: Pool) -> Iterator[Worker]:
    """A worker whose claims are valid until the block or the process ends."""
    with pool.connection() as connection:
        row = connection.execute("select nextval('ragworks.worker_id')::int").fetchone()
        worker_id = int(row[0]) if row else 0
        connection.execute("select pg_advisory_lock(%s, %s)", (WORKER_LOCK, worker_id))
        connection.commit()
        try:
            yield Worker(worker_id, connection)
        finally:
            if not connection.closed and not connection.broken:
                connection.execute("select pg_advisory_unlock(%s, %s)", (WORKER_LOCK, worker_id))


def enqueue_pending(connection: Connection, collection: int, generation_id: int, run_id: int) -> int:
    """Queue every wanted document whose content the generation neither holds nor has staged.

    A live generation's renamed documents need no work: publish gives them the rows that they had. Of a document that a new
    generation refused, the version is queued that the live one shows.

    :return: items now in the queue.
    """
    connection.execute(
        "delete from ragworks.work_item w where generation_id = %s and not exists (select from ragworks.desired_document d"
        " where d.id = w.document_id and d.wanted and d.content_hash = w.content_hash)"
        " and not exists (select from ragworks.earlier_version e where e.generation_id = w.generation_id"
        "  and e.document_id = w.document_id and e.content_hash = w.content_hash)",
        (generation_id,),
    )
    connection.execute(
        "with moved as materialized (select m.new_id from ragworks.generation l, ragworks.moves(%(c)s, l.id) m"
        "  where l.id = %(g)s and l.state = 'live')"
        " insert into ragworks.work_item (generation_id, document_id, content_hash, characters, run_id)"
        " select %(g)s, d.id, d.content_hash, length(t.text), %(run)s from ragworks.desired_document d"
        " join ragworks.document_text t on t.collection_id = d.collection_id and t.content_hash = d.content_hash"
        " where d.collection_id = %(c)s and d.wanted and not exists (select from ragworks.rejection r"
        "  where r.generation_id = %(g)s and r.document_id = d.id and r.content_hash = d.content_hash and not r.again)"
        " and not exists (select from ragworks.generation_document g where g.generation_id = %(g)s"
        "  and g.document_id = d.id and g.content_hash = d.content_hash)"
        " and not exists (select from moved where moved.new_id = d.id)"
        " on conflict (generation_id, document_id) do nothing",
        {"g": generation_id, "c": collection, "run": run_id},
    )
    connection.execute(
        "insert into ragworks.work_item (generation_id, document_id, content_hash, characters, run_id)"
        " select e.generation_id, e.document_id, e.content_hash, length(t.text), %(run)s from ragworks.earlier_version e"
        " join ragworks.document_text t on t.collection_id = %(c)s and t.content_hash = e.content_hash"
        " where e.generation_id = %(g)s and not e.is_rejected and not exists (select from ragworks.generation_document h"
        "  where h.generation_id = e.generation_id and h.document_id = e.document_id)"
        " on conflict (generation_id, document_id) do nothing",
        {"g": generation_id, "c": collection, "run": run_id},
    )
    row = connection.execute("select count(*) from ragworks.work_item where generation_id = %s", (generation_id,)).fetchone()
    return int(row[0]) if row else 0


def claim(connection: Connection, generation_id: int, worker_id: int, *, characters: int, limit: int) -> list[WorkItem]:
    """Take the next free items, up to about ``characters`` of text and ``limit`` documents; at least one if any is free.

    An item over which workers died is taken alone, after the others. One whose worker lives, but let its lease run out, is
    taken over without being held against the item: slow work would end as a document that kills.
    """
    with connection.cursor(row_factory=class_row(WorkItem)) as cursor:
        return cursor.execute(
            "with free as (select document_id, characters, attempts >= %(suspect)s as suspect,"
            f"  worker is not null and {_LIVES} as hung from ragworks.work_item"
            f"  where generation_id = %(g)s and {_FREE} order by attempts >= %(suspect)s, document_id limit %(limit)s"
            "  for update skip locked),"
            " batch as (select document_id, hung from (select document_id, suspect, hung,"
            "  sum(characters) over (order by suspect, document_id) - characters as before,"
            "  row_number() over (order by suspect, document_id) as n from free) s"
            "  where before < %(characters)s and (n = 1 or not suspect))"
            " update ragworks.work_item w set worker = %(worker)s, attempts = attempts + (not hung)::int,"
            f" lease_until = now() + interval '{LEASE_SECONDS} seconds'"
            " from batch, ragworks.document d where w.generation_id = %(g)s and w.document_id = batch.document_id"
            " and d.id = w.document_id returning w.document_id, d.uri, w.content_hash, w.characters, w.run_id, w.attempts",
            {
                "g": generation_id,
                "worker": worker_id,
                "characters": characters,
                "limit": limit,
                "suspect": SUSPECT_ATTEMPTS,
            },
        ).fetchall()


def renew(worker: Worker, generation_id: int) -> int:
    """Begin the lease of what this worker holds anew.

    :return: items that it still holds: fewer than it claimed when others took some over, or documents changed.
    """
    with worker.connection.transaction():
        # Not those that another transaction has locked: a plan takes the items of changed documents out.
        worker.connection.execute(
            f"update ragworks.work_item set lease_until = now() + interval '{LEASE_SECONDS} seconds'"
            " where generation_id = %(g)s and document_id in (select document_id from ragworks.work_item"
            "  where generation_id = %(g)s and worker = %(w)s for update skip locked)",
            {"g": generation_id, "w": worker.id},
        )
        row = worker.connection.execute(
            "select count(*) from ragworks.work_item where generation_id = %s and worker = %s", (generation_id, worker.id)
        ).fetchone()
    return int(row[0]) if row else 0


def taken_over(connection: Connection, generation_id: int, worker_id: int, claimed: Mapping[int, UUID]) -> bool:
    """Whether others hold some of what this worker claimed, in the version (document → content hash) that it claimed."""
    row = connection.execute(
        "select from ragworks.work_item w join unnest(%s::bigint[], %s::uuid[]) c (document_id, content_hash)"
        " using (document_id, content_hash) where w.generation_id = %s and w.worker <> %s limit 1",
        (list(claimed), list(claimed.values()), generation_id, worker_id),
    ).fetchone()
    return row is not None


def complete(connection: Connection, generation_id: int, worker_id: int, documents: Sequence[int]) -> bool:
    """Take finished items out of the queue, in the transaction that writes their chunks.

    :return: False when a claim was lost meanwhile (the lease ran out, or the document changed): roll back.
    """
    removed = connection.execute(
        "delete from ragworks.work_item w using ragworks.document d where w.generation_id = %s and w.document_id = any(%s)"
        " and w.worker = %s and d.id = w.document_id and (d.content_hash = w.content_hash or exists (select"
        "  from ragworks.earlier_version e where e.generation_id = w.generation_id and e.document_id = w.document_id"
        "  and e.content_hash = w.content_hash))",
        (generation_id, list(documents), worker_id),
    ).rowcount
    return removed == len(documents)


def release(connection: Connection, generation_id: int, worker_id: int) -> None:
    """Give back what this worker holds; it ended in order, so nothing is held against the items."""
    connection.execute(
        "update ragworks.work_item set worker = null, lease_until = null, attempts = greatest(attempts - 1, 0)"
        " where generation_id = %s and worker = %s",
        (generation_id, worker_id),
    )


def clear(connection: Connection, generation_id: int) -> None:
    """Empty a generation's queue: the next run says what it needs."""
    connection.execute("delete from ragworks.work_item where generation_id = %s", (generation_id,))


def give_space_back(connection: Connection) -> None:
    """Shorten the queue's files after a large run, on a connection without an open transaction; nobody is waited for."""
    connection.autocommit = True
    try:
        connection.execute("vacuum (skip_locked, truncate) ragworks.work_item")
    finally:
        if not connection.closed:
            connection.autocommit = False


def sample(connection: Connection, generation_id: int, characters: int) -> list[tuple[UUID, int]]:
    """(content hash, documents of this content) of queued texts in the order of their hashes, about ``characters`` of them.

    The order has nothing to do with the documents, so that a part of them stands for all.
    """
    rows = connection.execute(
        "select content_hash, n from (select content_hash, count(*)::int as n, max(characters) as size,"
        " sum(max(characters)) over (order by content_hash) - max(characters) as before"
        " from ragworks.work_item where generation_id = %s group by content_hash) s where before < %s order by content_hash",
        (generation_id, characters),
    )
    return [(row[0], int(row[1])) for row in rows]


def queued_size(connection: Connection, generation_id: int) -> tuple[int, int]:
    """(documents, characters of their different texts) in the queue."""
    row = connection.execute(
        "select coalesce(sum(n), 0), coalesce(sum(size), 0) from (select count(*) as n, max(characters) as size"
        " from ragworks.work_item where generation_id = %s group by content_hash) s",
        (generation_id,),
    ).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def remaining(connection: Connection, generation_id: int) -> int:
    """Items not finished, whoever holds them."""
    row = connection.execute("select count(*) from ragworks.work_item where generation_id = %s", (generation_id,)).fetchone()
    return int(row[0]) if row else 0


def clear_out_of_service(connection: Connection, collection: int) -> None:
    """Drop what runs queued for a generation that was rolled back meanwhile."""
    connection.execute(
        "delete from ragworks.work_item w using ragworks.generation g where g.id = w.generation_id and g.collection_id = %s"
        " and g.state not in ('building', 'live', 'candidate')",
        (collection,),
    )

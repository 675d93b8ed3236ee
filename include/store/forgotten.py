"""Forgotten documents: erased wherever they left a trace, and kept out while the source still shows them.

Only a hash of a document's uri is kept. What each table holds of a document stands in :mod:`include.store.traces`.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from include.errors import Transient
from include.store import collections, kept_out, traces, trained
from include.store.naming import uri_hash

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.store.pool import Connection

LOCK_SECONDS = 60  # a longer wait is for a run that plans or builds a vector index: the person should know


@dataclass(frozen=True, slots=True)
class Erased:
    """What erasing a document did.

    :param known: something of it was there; False when it was never seen, or was erased before.
    :param tables: rows removed or rewritten, by table; tables without any are left out.
    :param shared_with: other documents of the collection with the same text, which therefore stays.
    :param models: models that were trained on it.
    :param transaction: the transaction that erased it: what began before may still see it.
    """

    known: bool
    tables: dict[str, int]
    shared_with: list[str]
    models: list[str]
    transaction: str


def forget(connection: Connection, collection: int, uri: str, *, reason: str | None = None) -> Erased:
    """Erase a document from every table, in one transaction, and keep it out from now on; twice is fine.

    It waits for a plan or a publication of the collection, and for workers that are just writing. A worker that embeds the
    document finds its claim gone and writes nothing of it; what is written later asks :mod:`include.store.kept_out`.

    :raises Transient: a run held the collection, or one of its tables, for longer than LOCK_SECONDS.
    """
    with _held(connection, collection):
        _keep_out(connection, collection, uri, reason)
        kept_out.wait_for_writers(connection, collection)  # of what is new: questions, answers, reports
        # Workers hold their generation for share while they write: wait for them, and let none begin.
        connection.execute(
            "select from ragworks.generation where collection_id = %s order by id for no key update", (collection,)
        )
        return _erase(connection, collection, uri)


def restore(connection: Connection, collection: int, uri: str) -> bool:
    """Let a forgotten document in again, at the next run that reads it; its objects are read again for that.

    :return: False when it was not forgotten.
    :raises Transient: as :func:`forget`.
    """
    with _held(connection, collection):
        removed = connection.execute(
            "delete from ragworks.forgotten where collection_id = %s and uri_hash = %s", (collection, uri_hash(uri))
        ).rowcount
        if removed:
            # A file of its own has no row here and is read as a new one. Any other object may hold it by now.
            connection.execute(
                "update ragworks.source_object o set fingerprint = '' where collection_id = %(c)s and not exists"
                " (select from ragworks.document d where d.collection_id = %(c)s and d.uri = o.uri"
                "  and d.object_uri = o.uri and d.state <> 'deleted')",
                {"c": collection},
            )
    return bool(removed)


@contextmanager
def _held(connection: Connection, collection: int) -> Iterator[None]:
    """A transaction that holds the collection: no run plans or publishes it meanwhile."""
    try:
        with connection.transaction():
            connection.execute(sql.SQL("set local lock_timeout = {}").format(sql.Literal(f"{LOCK_SECONDS}s")))
            collections.lock_collection(connection, collection)
            yield
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
        raise Transient(
            "nothing was changed: a run holds the collection",
            f"it is planning or building a vector index, for longer than {LOCK_SECONDS} s",
            "Try again",
        ) from error


def _keep_out(connection: Connection, collection: int, uri: str, reason: str | None) -> None:
    connection.execute(
        "insert into ragworks.forgotten (collection_id, uri_hash, reason) values (%s, %s, %s)"
        " on conflict (collection_id, uri_hash) do update set reason = coalesce(excluded.reason, forgotten.reason)",
        (collection, uri_hash(uri), reason),
    )


def _erase(connection: Connection, collection: int, uri: str) -> Erased:
    targets = traces.find(connection, collection, uri)
    shared_with = traces.sharing(connection, targets)
    trained.note_names(connection, collection, [target.uri for target in targets], targets[0].contents)
    models = trained.models_trained_on(connection, collection, uri)
    tables: Counter[str] = Counter()
    for trace in traces.TRACES:
        for target in targets:
            tables[trace.table] += trace.erase(connection, target)
    for target in targets:
        tables.update(traces.erase_chunks(connection, target))
    erased = {name: rows for name, rows in sorted(tables.items()) if rows}
    row: tuple[Any, ...] | None = connection.execute("select pg_current_xact_id()::xid::text").fetchone()
    known = bool(erased.keys() - {"document_text"})  # texts without a document may be another's
    return Erased(known, erased, shared_with, models, str(row[0]) if row else "0")

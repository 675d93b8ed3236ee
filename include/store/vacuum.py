"""Takes the space of erased rows back, so that their bytes do not wait in the files of their tables."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from include.store.pool import Connection

logger = logging.getLogger(__name__)

WAIT_SECONDS = 60  # for transactions that may still see the rows, and for a table's lock
POLL_SECONDS = 0.2


def vacuum(
    connection: Connection,
    tables: Sequence[str],
    *,
    transaction: str,
    rewrite: bool = False,
    wait_seconds: float = WAIT_SECONDS,
    advance: Callable[[int], object] = lambda _: None,
) -> list[str]:
    """Vacuum tables of the schema with their indexes, on a connection without an open transaction.

    A plain vacuum stands in nobody's way, and frees the rows for reuse; their bytes stay in the file until that happens.

    :param transaction: the id of the one that removed the rows; what began before it and goes on is waited for.
    :param rewrite: write each table and its indexes anew instead, without those bytes; who reads it waits meanwhile.
    :param advance: told of each table done.
    :return: tables that could not be vacuumed, or only in part, because somebody held them or could still see the rows.
    """
    options = sql.SQL("full" if rewrite else "index_cleanup on, truncate on")
    left: list[str] = []
    with _autocommit(connection, wait_seconds):
        seen = _wait_for_older(connection, transaction, wait_seconds)
        for table in tables:
            try:
                connection.execute(sql.SQL("vacuum ({}) {}").format(options, sql.Identifier("ragworks", table)))
            except psycopg.errors.UndefinedTable:
                logger.debug("%s is gone: its generation was dropped", table)
            except psycopg.errors.LockNotAvailable:
                left.append(table)
            else:
                left += [table] if seen else []
            advance(1)
    return left


@contextmanager
def _autocommit(connection: Connection, wait_seconds: float) -> Iterator[None]:
    connection.autocommit = True
    connection.execute(sql.SQL("set lock_timeout = {}").format(sql.Literal(f"{int(wait_seconds * 1000)}ms")))
    connection.execute("set maintenance_work_mem = '512MB'")  # for the vector index, when it is written anew
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute("reset lock_timeout")
            connection.execute("reset maintenance_work_mem")
            connection.autocommit = False


def _wait_for_older(connection: Connection, transaction: str, wait_seconds: float) -> bool:
    """Wait until nobody sees the rows any more; True when somebody still does."""
    deadline = time.monotonic() + wait_seconds
    while True:
        row = connection.execute(
            "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
            " and (age(backend_xmin) >= age(%(t)s::xid) or age(backend_xid) >= age(%(t)s::xid))",
            {"t": transaction},
        ).fetchone()
        if row is None or not row[0]:
            return False
        if time.monotonic() >= deadline:
            return True
        time.sleep(POLL_SECONDS)

"""One process trains under a key at a time; the server lets go of a lock whose process died."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.store.pool import Connection, Pool

TRAINING_LOCK = 0x5254  # advisory lock class; the second key is the id of the training


def second_key(run: int) -> int:
    """The key of a training's lock."""
    return run % 2**31


@contextmanager
def training(pool: Pool, run: int) -> Iterator[Connection | None]:
    """The connection that holds the lock of a training, each statement its own transaction; None when another process has it.

    What is written on it is written by who holds the lock: were the connection lost, so would be the lock.
    """
    key = (TRAINING_LOCK, second_key(run))
    with pool.connection() as connection:
        connection.autocommit = True  # it would be idle in a transaction for hours
        row = connection.execute("select pg_try_advisory_lock(%s, %s)", key).fetchone()
        held = bool(row and row[0])
        try:
            yield connection if held else None
        finally:
            if not connection.closed and not connection.broken:
                if held:
                    connection.execute("select pg_advisory_unlock(%s, %s)", key)
                connection.autocommit = False


def at_work(connection: Connection) -> set[int]:
    """Second keys of the locks of trainings that some process works on now, in this database."""
    rows = connection.execute(
        "select objid::bigint from pg_locks where locktype = 'advisory' and classid::bigint = %s and objsubid = 2 and granted"
        " and database = (select oid from pg_database where datname = current_database())",
        (TRAINING_LOCK,),
    )
    return {int(row[0]) for row in rows}

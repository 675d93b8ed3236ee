"""What somebody who only looks asks the database: quickly, without migrating it, and never in the middle of a plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from include.store.collections import COLLECTION_LOCK

if TYPE_CHECKING:
    from include.store.pool import Connection


@dataclass(frozen=True, slots=True)
class KnownCollection:
    """A collection that a run has seen; ``free`` says whether none plans or publishes it at this moment."""

    id: int
    free: bool


def known_collection(connection: Connection, name: str) -> KnownCollection | None:
    """The collection, kept free until the transaction ends; None when no run ever saw it.

    The lock that a plan holds alone is held in common here: what a plan has half written is not looked at.
    """
    row = connection.execute("select id from ragworks.collection where name = %s", (name,)).fetchone()
    if row is None:
        return None
    free = connection.execute("select pg_try_advisory_xact_lock_shared(%s, %s)", (COLLECTION_LOCK, row[0])).fetchone()
    return KnownCollection(int(row[0]), bool(free and free[0]))


def no_schema() -> tuple[type[psycopg.Error], ...]:
    """What Postgres says where Ragworks' tables are missing, or are those of an older version."""
    return psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.InvalidSchemaName

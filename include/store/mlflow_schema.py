"""The schema of MLflow's own tables: it is there, and one process at a time has MLflow make them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from include.store.pool import Connection

SCHEMA = "mlflow"
SETUP_LOCK = 0x4D4C_666C  # any constant: two processes that make MLflow's tables at once would fail


def hold_schema(connection: Connection) -> None:
    """Make the schema when it is missing; other processes wait here until the connection ends.

    :param connection: with autocommit: MLflow's own connections must see the schema.
    """
    connection.execute("select pg_advisory_lock(%s)", (SETUP_LOCK,))
    connection.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(SCHEMA)))

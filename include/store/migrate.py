"""Brings the schema `ragworks` up to date: numbered files once and for ever, definitions whenever they change."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import psycopg
from psycopg import sql

from include.errors import BadConfiguration

if TYPE_CHECKING:
    from include.store.pool import Connection

logger = logging.getLogger(__name__)

SCHEMA = Path(__file__).parent / "schema"
MIGRATION_LOCK = 0x5261_6757  # any constant; all processes of one database must agree
MIN_POSTGRES, MIN_PGVECTOR = 150_000, (0, 8)


def migrate(connection: Connection) -> list[str]:
    """Apply what is missing, in one transaction, one process at a time.

    :return: names of the files applied; empty when the schema was current.
    :raises BadConfiguration: unsuitable server, or a shipped migration was edited.
    """
    wanted = _files()
    if _applied(connection) == wanted:
        return []
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(%s)", (MIGRATION_LOCK,))
        _require_pgvector(connection)
        connection.execute("create schema if not exists ragworks")
        connection.execute(
            "create table if not exists ragworks.migration"
            " (name text primary key, digest text not null, applied_at timestamptz not null default now())"
        )
        applied = _applied(connection)
        return [name for name in wanted if _apply(connection, name, wanted[name], applied.get(name))]


def _files() -> dict[str, str]:
    """name → digest, in the order of application."""
    paths = [*sorted((SCHEMA / "incremental").glob("*.sql")), *sorted((SCHEMA / "idempotent").glob("*.sql"))]
    return {f"{p.parent.name}/{p.name}": hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def _applied(connection: Connection) -> dict[str, str]:
    if connection.execute("select to_regclass('ragworks.migration')").fetchone() == (None,):
        return {}
    return dict(cast("list[tuple[str, str]]", connection.execute("select name, digest from ragworks.migration").fetchall()))


def _apply(connection: Connection, name: str, digest: str, before: str | None) -> bool:
    if before == digest:
        return False
    if before is not None and name.startswith("incremental/"):
        raise BadConfiguration(
            f"migration {name} differs from the one applied to this database", "shipped migrations are frozen",
            "Restore the file and put the change into a new one",
        )  # fmt: skip
    connection.execute(sql.SQL((SCHEMA / name).read_text(encoding="utf-8")))
    connection.execute(
        "insert into ragworks.migration (name, digest) values (%s, %s)"
        " on conflict (name) do update set digest = excluded.digest, applied_at = now()",
        (name, digest),
    )
    logger.info("applied migration %s", name)
    return True


def _require_pgvector(connection: Connection) -> None:
    if connection.info.server_version < MIN_POSTGRES:
        raise BadConfiguration(
            f"Postgres {connection.info.server_version // 10_000} is too old",
            "15 or newer is needed",
            "Upgrade the server",
        )
    try:
        with connection.transaction():
            connection.execute("create extension if not exists vector")
    except (psycopg.errors.FeatureNotSupported, psycopg.errors.UndefinedFile) as error:
        raise BadConfiguration(
            "this Postgres has no pgvector", "the extension `vector` is not installed on the server",
            "Install pgvector 0.8 or newer there (package postgresql-NN-pgvector, or the image pgvector/pgvector)",
        ) from error  # fmt: skip
    except psycopg.errors.InsufficientPrivilege as error:
        raise BadConfiguration(
            "pgvector is not enabled in this database", "this user may not create extensions",
            "Have an administrator run: create extension vector",
        ) from error  # fmt: skip
    row: tuple[Any, ...] | None = connection.execute("select extversion from pg_extension where extname = 'vector'").fetchone()
    version = str(row[0]) if row else "0"
    if tuple(int(part) for part in version.split(".")[:2]) < MIN_PGVECTOR:
        raise BadConfiguration(f"pgvector {version} is too old", "0.8 or newer is needed", "Run: alter extension vector update")

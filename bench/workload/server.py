"""A Postgres of the benchmark's own, a database a case, and what its tables weigh."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from include.store import embedded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@contextmanager
def server(home: Path) -> Iterator[str]:
    """URL of an embedded server under ``home``, stopped at the end."""
    url = embedded.ensure_running(home)
    try:
        yield url
    finally:
        embedded.stop(home)


def fresh_database(server_url: str, name: str, *, template: str = "template1") -> str:
    """URL of a new database, in place of one of that name."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))
        connection.execute(sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(template)))
    return address(server_url, name)


def address(server_url: str, name: str) -> str:
    """URL of a database on this server."""
    parts = conninfo_to_dict(server_url)
    return f"postgresql://{parts['user']}:{parts['password']}@{parts['host']}:{parts['port']}/{name}"


def table_bytes(url: str, schemas: Sequence[str]) -> dict[str, int]:
    """Bytes of every table of these schemas with its indexes and its long values, largest first."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "select relname, pg_total_relation_size(oid) from pg_class where relkind in ('r', 'm', 'S')"
            " and relnamespace::regnamespace::text = any(%s) order by 2 desc",
            (list(schemas),),
        ).fetchall()
    return {str(name): int(size) for name, size in rows}


def log_statements(server_url: str, milliseconds: int) -> None:
    """Have the server log what takes longer."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        setting = sql.SQL("alter system set log_min_duration_statement = {}").format(sql.Literal(milliseconds))
        connection.execute(setting)
        connection.execute("alter system set log_parameter_max_length = 0")
        connection.execute("select pg_reload_conf()")


def slow_statements(home: Path, top: int) -> list[tuple[float, int, str]]:
    """(seconds in all, how often, statement) of what :func:`log_statements` had logged, dearest first."""
    found: dict[str, tuple[float, int]] = {}
    pattern = re.compile(r"duration: ([0-9.]+) ms +(?:statement|execute [^:]*): (.*)")
    for log in sorted((home / "postgres" / "log").glob("postgres-*.log")):
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            if match := pattern.search(line):
                statement = re.sub(r"_\d+\b", "_N", match[2].strip())[:180]
                seconds, count = found.get(statement, (0.0, 0))
                found[statement] = seconds + float(match[1]) / 1000, count + 1
    ranked = sorted(found.items(), key=lambda item: -item[1][0])[:top]
    return [(round(seconds, 2), count, statement) for statement, (seconds, count) in ranked]

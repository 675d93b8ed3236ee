"""Connections to Postgres: one pool per process, vectors registered, failures said in one line."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import psycopg
from pgvector.psycopg import register_vector
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import ConnectionPool

from include.errors import BadConfiguration, ServiceUnavailable
from include.store import embedded, errors, migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.config import Settings

Connection = psycopg.Connection[tuple[Any, ...]]
Pool = ConnectionPool[Connection]

CONNECT_TIMEOUT = 10  # seconds
NOTICE_DEATH_MS = 2000  # the server ends the statement of a killed client, which would hold locks while an index is built


@contextmanager
def open_pool(settings: Settings, *, max_size: int = 4) -> Iterator[Pool]:
    """A pool on a migrated database; starts the embedded server when no database is configured.

    :raises ServiceUnavailable: nothing answers at the address, or it refuses the login.
    :raises BadConfiguration: the server is too old or has no pgvector.
    :raises RagworksError: what Postgres failed at meanwhile, see :func:`include.store.errors.translate`.
    """
    url = database_url(settings)
    with _connect(url) as connection:
        migrate.migrate(connection)
    with ConnectionPool(url, min_size=1, max_size=max_size, configure=_configure, kwargs=_options(url), open=True) as pool:
        try:
            yield pool
        except psycopg.Error as error:
            known = errors.translate(error, address(url))
            if known is None:
                raise
            raise known from error


@contextmanager
def open_connection(settings: Settings) -> Iterator[Connection]:
    """One connection for who only looks: it cannot write, nothing is migrated, vectors stay text.

    :raises ServiceUnavailable: nothing answers at the address, or it refuses the login.
    """
    with _connect(database_url(settings)) as connection:
        connection.read_only = True
        yield connection


@contextmanager
def snapshot(connection: Connection) -> Iterator[None]:
    """All that is read inside belongs to one state of the index, also while another is published."""
    with connection.transaction():
        # no parallel workers: starting them takes longer than a search, and many searches run at once
        connection.execute(
            "set transaction isolation level repeatable read, read only; set local max_parallel_workers_per_gather = 0"
        )
        yield


def database_url(settings: Settings) -> str:
    """The configured database, or the embedded server's (started if it is down)."""
    return settings.database_url or embedded.ensure_running(settings.home)


def address(url: str) -> str:
    """host:port/database of a URL, without the credentials."""
    parts = _parts(url)
    return f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"


def _connect(url: str) -> Connection:
    try:
        return psycopg.connect(url, **_options(url))
    except psycopg.ProgrammingError as error:
        raise BadConfiguration(
            "the database URL is not usable", errors.first_line(error), "Write postgresql://user:password@host:port/database"
        ) from error
    except psycopg.OperationalError as error:
        raise ServiceUnavailable(
            f"Postgres at {address(url)} does not answer", errors.first_line(error),
            "Start it, or correct RAGWORKS_DATABASE_URL or the Airflow connection ragworks_postgres",
        ) from error  # fmt: skip


def _options(url: str) -> dict[str, Any]:
    own = "-c timezone=UTC"
    theirs = _parts(url).get("options")
    return {
        "connect_timeout": CONNECT_TIMEOUT,
        "application_name": "ragworks",
        "options": f"{theirs} {own}" if theirs else own,
    }


def _parts(url: str) -> dict[str, Any]:
    """The parts of a URL.

    :raises BadConfiguration: it cannot be parsed; the message does not repeat it, since it may hold a password.
    """
    try:
        return dict(conninfo_to_dict(url))
    except psycopg.ProgrammingError as error:
        raise BadConfiguration(
            "the database URL is not usable", "it cannot be parsed", "Write postgresql://user:password@host:port/database"
        ) from error


def _configure(connection: Connection) -> None:
    register_vector(connection)
    connection.commit()
    with suppress(psycopg.errors.InvalidParameterValue), connection.transaction():  # not every system can tell
        connection.execute(f"set client_connection_check_interval = {NOTICE_DEATH_MS}")

"""What Airflow's connections say about the database and the sources, in the terms of ``include``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException

from include.config import Settings
from include.errors import BadConfiguration
from include.sources import credentials
from include.sources.credentials import ConnectionFields

if TYPE_CHECKING:
    from collections.abc import Mapping

    from include.collection_file import FilesSource, JsonlSource, SqlSource

logger = logging.getLogger(__name__)

CONN_ID = "ragworks_postgres"


def settings_from_airflow() -> Settings:
    """The settings of this process; the connection ``ragworks_postgres`` wins over the environment.

    :raises BadConfiguration: the connection is there but is none to Postgres.
    """
    try:
        connection = Connection.get(CONN_ID)
    except AirflowNotFoundException:
        settings = Settings.from_environment()
        place = "RAGWORKS_DATABASE_URL" if settings.database_url else f"the embedded server in {settings.home}"
        logger.info("Airflow has no connection %s: the database is that of %s", CONN_ID, place)
        return settings
    return Settings.from_environment(database_url=postgres_url(connection))


def postgres_url(connection: Connection) -> str:
    """A libpq URL of an Airflow connection; parameters of libpq in ``extra`` (sslmode, …) go along.

    :raises BadConfiguration: its type is not Postgres.
    """
    if connection.conn_type not in ("postgres", "postgresql"):
        raise BadConfiguration(
            f"the Airflow connection {connection.conn_id}",
            f"its type is {connection.conn_type!r}",
            "Make it a connection of type postgres to a database with pgvector",
        )
    credentials = quote(connection.login or "", safe="")
    if connection.password:
        credentials += ":" + quote(connection.password, safe="")
    address = _host(connection.host or "") + (f":{connection.port}" if connection.port else "")
    parameters = _libpq_parameters(connection.conn_id, _extra(connection))
    return (
        "postgresql://"
        + (f"{credentials}@" if credentials else "")
        + f"{address}/{quote(connection.schema or '', safe='')}"
        + (f"?{urlencode(parameters, quote_via=quote)}" if parameters else "")
    )


def source_options(source: FilesSource | JsonlSource | SqlSource) -> dict[str, Any] | None:
    """What :func:`include.sources.open_source` needs to know of the source's connection; None: it names none.

    :raises BadConfiguration: Airflow does not know the connection.
    """
    return credentials.source_options(source, _source_connection(source.conn_id)) if source.conn_id else None


def storage_options(conn_id: str) -> dict[str, Any]:
    """Arguments for the fsspec file system; :func:`include.sources.credentials.storage_options` says which.

    :raises BadConfiguration: Airflow does not know the connection.
    """
    return credentials.storage_options(_source_connection(conn_id))


def sql_url(conn_id: str) -> str:
    """SQLAlchemy's URL of a database; :func:`include.sources.credentials.sql_url` says how.

    :raises BadConfiguration: Airflow does not know the connection, or it has no type.
    """
    return credentials.sql_url(_source_connection(conn_id))


def _source_connection(conn_id: str) -> ConnectionFields:
    try:
        connection = Connection.get(conn_id)
    except AirflowNotFoundException as error:
        raise BadConfiguration(
            f"source.conn_id {conn_id}", "Airflow has no such connection", "Add it, or take the key out of the collection file"
        ) from error
    return ConnectionFields(
        conn_id,
        connection.conn_type or "",
        connection.host or "",
        connection.port,
        connection.login or "",
        connection.password or "",
        connection.schema or "",
        _extra(connection),
    )


def _host(host: str) -> str:
    """IPv6 addresses in brackets; the folder of a Unix socket is percent-encoded."""
    if ":" in host and not host.startswith("["):
        return f"[{host}]"
    return quote(host, safe="[]:,")


def _libpq_parameters(conn_id: str, extra: Mapping[str, Any]) -> dict[str, str]:
    """What of the extra libpq knows, and a line of what it does not."""
    known = credentials.libpq_parameters(extra)
    if ignored := sorted(key for key, value in extra.items() if key not in known and value not in (None, "")):
        logger.info("Not a parameter of Postgres, ignored in the extra of %s: %s", conn_id, ", ".join(ignored))
    return known


def _extra(connection: Connection) -> dict[str, Any]:
    """The extra as a mapping.

    :raises BadConfiguration: it is not a JSON object; Airflow itself would take it for an empty one.
    """
    extra = connection.extra_dejson
    if not isinstance(extra, dict) or (not extra and (connection.extra or "").strip() not in ("", "{}", "null")):
        raise BadConfiguration(
            f"the Airflow connection {connection.conn_id}", "its extra is not a JSON object", 'Write {"sslmode": "require"}'
        )
    return extra

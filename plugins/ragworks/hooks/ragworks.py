"""What Airflow's connections say about the database and the sources, in the terms of ``include``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException

from include.config import Settings
from include.errors import BadConfiguration

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)

CONN_ID = "ragworks_postgres"

# Connection types whose login and password are arguments of the fsspec file system (sftp, ftp, smb, webhdfs).
_LOGIN_TYPES = frozenset({"ssh", "sftp", "ftp", "smb", "samba", "webhdfs"})
_AWS_EXTRA = {
    "aws_session_token": "token",
    "aws_access_key_id": "key",
    "aws_secret_access_key": "secret",
    "host": "endpoint_url",
}


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


def storage_options(conn_id: str) -> dict[str, Any]:
    """Arguments for the fsspec file system from an Airflow connection: its ``extra``, and for known types the login.

    - ``aws``: login and password are ``key`` and ``secret``; ``endpoint_url``, ``region_name`` and
      ``aws_session_token`` of the extra are translated for s3fs.
    - ``sftp``, ``ftp``, ``smb``, ``webhdfs``: host, port, login and password.
    - any other: ``extra`` alone, as the file system's own argument names, e.g. {"token": …} for gcsfs.

    :raises BadConfiguration: Airflow does not know the connection.
    """
    try:
        connection = Connection.get(conn_id)
    except AirflowNotFoundException as error:
        raise BadConfiguration(
            f"source.conn_id {conn_id}", "Airflow has no such connection", "Add it, or take the key out of the collection file"
        ) from error
    extra = _extra(connection)
    if connection.conn_type == "aws":
        return _aws_options(connection, extra)
    if connection.conn_type in _LOGIN_TYPES:
        named = {
            "host": connection.host,
            "port": connection.port,
            "username": connection.login,
            "password": connection.password,
        }
        return {key: value for key, value in named.items() if value} | extra
    return extra


def _aws_options(connection: Connection, extra: Mapping[str, Any]) -> dict[str, Any]:
    """For s3fs, whose names differ from those of Airflow's AWS connection."""
    options = {_AWS_EXTRA.get(key, key): value for key, value in extra.items() if key != "region_name"}
    if region := extra.get("region_name"):
        options["client_kwargs"] = {"region_name": region} | dict(options.get("client_kwargs") or {})
    named = {"key": connection.login, "secret": connection.password}
    return options | {key: value for key, value in named.items() if value}


def _host(host: str) -> str:
    """IPv6 addresses in brackets; the folder of a Unix socket is percent-encoded."""
    if ":" in host and not host.startswith("["):
        return f"[{host}]"
    return quote(host, safe="[]:,")


def _libpq_parameters(conn_id: str, extra: Mapping[str, Any]) -> dict[str, str]:
    """What of the extra libpq knows; Airflow's own keys there (cursor, iam, …) would make it refuse the URL."""
    from psycopg.pq import Conninfo

    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    ignored = sorted(set(extra) - known)
    if ignored:
        logger.info("Not a parameter of Postgres, ignored in the extra of %s: %s", conn_id, ", ".join(ignored))
    return {key: str(value) for key, value in extra.items() if key in known and value not in (None, "")}


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

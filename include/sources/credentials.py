"""What a connection says, in the terms of file systems and databases: one translation for Airflow and the command line."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from include.errors import BadConfiguration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from include.collection_file import FilesSource, JsonlSource, SqlSource

# Connection types whose login and password are arguments of the fsspec file system (sftp, ftp, smb, webhdfs).
_LOGIN_TYPES = frozenset({"ssh", "sftp", "ftp", "smb", "samba", "webhdfs"})
_AWS_EXTRA = {
    "aws_session_token": "token",
    "aws_access_key_id": "key",
    "aws_secret_access_key": "secret",
    "host": "endpoint_url",
}
# Airflow's names of databases where SQLAlchemy's differ, or where its own choice of a driver is one that must be compiled.
_DIALECTS = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "redshift": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
    "mssql": "mssql+pymssql",
    "oracle": "oracle+oracledb",
}


@dataclass(frozen=True, slots=True)
class ConnectionFields:
    """The fields of an Airflow connection; secrets stay out of its repr."""

    conn_id: str
    conn_type: str = ""
    host: str = ""
    port: int | None = None
    login: str = ""
    password: str = field(default="", repr=False)
    schema: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)


def parse_connection(conn_id: str, text: str) -> ConnectionFields:
    """The value of a variable ``AIRFLOW_CONN_…``, a URI or a JSON object, read as Airflow reads it.

    :raises BadConfiguration: it is neither.
    """
    try:
        return _from_json(conn_id, json.loads(text)) if text.lstrip().startswith("{") else _from_uri(conn_id, text)
    except (ValueError, TypeError, AttributeError):  # the text is a secret: no message shows it
        raise BadConfiguration(
            f"the connection {conn_id} of the environment",
            "it is neither a URI nor a JSON object of a connection",
            'Write postgres://login:password@host:5432/database or {"conn_type": "postgres", "host": …}',
        ) from None


def source_options(source: FilesSource | JsonlSource | SqlSource, fields: ConnectionFields) -> dict[str, Any]:
    """What :func:`include.sources.open_source` takes for this kind of source."""
    return {"url": sql_url(fields)} if source.type == "sql" else storage_options(fields)


def storage_options(fields: ConnectionFields) -> dict[str, Any]:
    """Arguments for the fsspec file system: the connection's ``extra``, and for known types the login.

    - ``aws``: login and password are ``key`` and ``secret``; ``endpoint_url``, ``region_name`` and
      ``aws_session_token`` of the extra are translated for s3fs.
    - ``sftp``, ``ftp``, ``smb``, ``webhdfs``: host, port, login and password.
    - any other: ``extra`` alone, as the file system's own argument names, e.g. {"token": …} for gcsfs.
    """
    if fields.conn_type == "aws":
        return _aws_options(fields)
    if fields.conn_type in _LOGIN_TYPES:
        named = {"host": fields.host, "port": fields.port, "username": fields.login, "password": fields.password}
        return {key: value for key, value in named.items() if value} | dict(fields.extra)
    return dict(fields.extra)


def sql_url(fields: ConnectionFields) -> str:
    """The SQLAlchemy URL, percent-encoded; its dialect is the connection's type or ``sqlalchemy_scheme`` of the extra.

    Parameters: what libpq knows of a Postgres connection's extra (sslmode, …), and ``sqlalchemy_query`` of any.

    :raises BadConfiguration: the connection has no type.
    """
    from sqlalchemy import URL

    if not fields.conn_type:
        raise BadConfiguration(f"the connection {fields.conn_id}", "it has no type", "Set its type, for example postgres")
    dialect = str(fields.extra.get("sqlalchemy_scheme") or _DIALECTS.get(fields.conn_type, fields.conn_type))
    query = {key: str(value) for key, value in dict(fields.extra.get("sqlalchemy_query") or {}).items()}
    if dialect.startswith("postgresql"):
        query = libpq_parameters(fields.extra) | query
    if dialect.startswith("sqlite"):  # Airflow takes the file from the host, a URI of SQLAlchemy's shape leaves it in the path
        return URL.create(dialect, database=fields.host or fields.schema).render_as_string(hide_password=False)
    host = fields.host
    if host.startswith("/"):  # the folder of a Unix socket
        host, query = "", query | {"host": host}
    url = URL.create(
        dialect, fields.login or None, fields.password or None, host or None, fields.port, fields.schema or None, query
    )
    return url.render_as_string(hide_password=False)


def libpq_parameters(extra: Mapping[str, Any]) -> dict[str, str]:
    """What of an extra libpq knows; Airflow's own keys there (cursor, iam, …) would make it refuse the URL."""
    from psycopg.pq import Conninfo

    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    return {key: str(value) for key, value in extra.items() if key in known and value not in (None, "")}


def _aws_options(fields: ConnectionFields) -> dict[str, Any]:
    """For s3fs, whose names differ from those of Airflow's AWS connection."""
    extra = fields.extra
    options = {_AWS_EXTRA.get(key, key): value for key, value in extra.items() if key != "region_name"}
    if region := extra.get("region_name"):
        options["client_kwargs"] = {"region_name": region} | dict(options.get("client_kwargs") or {})
    named = {"key": fields.login, "secret": fields.password}
    return options | {key: value for key, value in named.items() if value}


def _from_json(conn_id: str, values: dict[str, Any]) -> ConnectionFields:
    extra = values.get("extra") or {}
    return ConnectionFields(
        conn_id,
        _normal_type(str(values.get("conn_type") or "")),
        str(values.get("host") or ""),
        int(values["port"]) if values.get("port") else None,
        str(values.get("login") or ""),
        str(values.get("password") or ""),
        str(values.get("schema") or ""),
        _mapping(json.loads(extra) if isinstance(extra, str) else extra),
    )


def _from_uri(conn_id: str, text: str) -> ConnectionFields:
    parts = urlsplit(text.strip())
    if not parts.scheme or "://" not in text:
        raise ValueError("no scheme")
    nested = parts.netloc.endswith(":") and parts.path.startswith("//")  # http://https://host: the host has a protocol
    inner = urlsplit(text.strip().split("://", 1)[1]) if nested else parts
    protocol = f"{inner.scheme}://" if nested else ""
    address = inner.netloc.rpartition("@")[2]
    host = address if address.startswith("[") else address.partition(":")[0]  # urlsplit would lower its case
    query = dict(parse_qsl(inner.query, keep_blank_values=True))
    return ConnectionFields(
        conn_id,
        _normal_type(parts.scheme),
        protocol + unquote(host.partition("]")[0].strip("[")) if host else "",
        inner.port,
        unquote(inner.username or ""),
        unquote(inner.password or ""),
        unquote(inner.path[1:]),
        _mapping(json.loads(query["__extra__"]) if "__extra__" in query else query),
    )


def _normal_type(name: str) -> str:
    return "postgres" if name == "postgresql" else name.replace("-", "_")


def _mapping(extra: Any) -> Mapping[str, Any]:
    if not isinstance(extra, dict):
        raise TypeError("the extra is not an object")
    return extra

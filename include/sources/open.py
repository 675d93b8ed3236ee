"""From a collection's settings to its source."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import include.config
from include.errors import BadConfiguration
from include.sources.credentials import parse_connection, source_options
from include.sources.files import FilesSource
from include.sources.jsonl import JsonlSource
from include.sources.local import LocalFolder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from include import collection_file
    from include.collection_file import Collection
    from include.sources.location import Location
    from include.sources.source import Source

logger = logging.getLogger(__name__)


def open_source(collection: Collection, *, storage_options: Mapping[str, Any] | None = None) -> Source:
    """The source that ``collection.source`` describes; nothing is read yet.

    :param storage_options: what its connection says: arguments for the fsspec file system, or {"url": …} of a database.
        None: the connection, if the source names one, is looked for in the environment.
    :raises BadConfiguration: unknown protocol, a package that is not installed, a glob that cannot match, no connection.
    """
    source, max_bytes = collection.source, collection.validation.max_bytes
    options = storage_options if storage_options is not None else _from_environment(source)
    if source.type == "sql":
        from include.sources.sql import SqlSource

        return SqlSource(source, str(source.url or options["url"]), max_bytes)
    location = _locate(source.path, options, single=source.type == "jsonl")
    kind = JsonlSource if source.type == "jsonl" else FilesSource
    return kind(location, source.glob, max_bytes)


def _from_environment(
    source: collection_file.FilesSource | collection_file.JsonlSource | collection_file.SqlSource,
) -> dict[str, Any]:
    """Where Airflow is not there to be asked."""
    if source.conn_id is None:
        return {}
    variable = f"AIRFLOW_CONN_{source.conn_id.upper()}"
    if (value := include.config.connection_variable(source.conn_id)) is not None:
        return source_options(source, parse_connection(source.conn_id, value))
    if source.type == "sql":
        fix = f"Set it to the database's URL, for example {variable}=postgres://user:password@host:5432/database"
        raise BadConfiguration(f"source.conn_id {source.conn_id}", f"the variable {variable} is not set", fix)
    logger.info("no %s: the store's own package looks for credentials", variable)
    return {}


def _locate(path: str, options: Mapping[str, Any], *, single: bool) -> Location:
    if "://" not in path:
        return LocalFolder(include.config.PROJECT_ROOT / Path(path).expanduser(), path, single=single)
    if "::" not in path and path.startswith(("file://", "local://")):
        return LocalFolder(Path(unquote(urlsplit(path).path)), path, single=single)
    from include.sources.remote import RemoteFolder

    return RemoteFolder(path, options, single=single)

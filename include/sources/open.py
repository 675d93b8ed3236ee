"""From a collection's settings to its source."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import include.config
from include.sources.files import FilesSource
from include.sources.jsonl import JsonlSource
from include.sources.local import LocalFolder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from include.config import Collection
    from include.sources.location import Location
    from include.sources.source import Source


def open_source(collection: Collection, *, storage_options: Mapping[str, Any] | None = None) -> Source:
    """The source that ``collection.source`` describes; nothing is read yet.

    :param storage_options: arguments for the fsspec file system (credentials, endpoint); not for local paths.
    :raises BadConfiguration: unknown protocol, a package that is not installed, a glob that cannot match.
    """
    source, max_bytes = collection.source, collection.validation.max_bytes
    location = _locate(source.path, storage_options or {}, single=source.type == "jsonl")
    kind = JsonlSource if source.type == "jsonl" else FilesSource
    return kind(location, source.glob, max_bytes)


def _locate(path: str, options: Mapping[str, Any], *, single: bool) -> Location:
    if "://" not in path:
        return LocalFolder(include.config.PROJECT_ROOT / Path(path).expanduser(), path, single=single)
    if "::" not in path and path.startswith(("file://", "local://")):
        return LocalFolder(Path(unquote(urlsplit(path).path)), path, single=single)
    from include.sources.remote import RemoteFolder

    return RemoteFolder(path, options, single=single)

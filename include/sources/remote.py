"""Files in any store that fsspec reaches: memory, S3, GCS, Azure, SFTP, HTTP."""

from __future__ import annotations

import logging
import re
import uuid
from typing import TYPE_CHECKING, Any

import fsspec  # type: ignore[import-untyped, unused-ignore]
from fsspec.asyn import AsyncFileSystem  # type: ignore[import-untyped, unused-ignore]
from fsspec.core import url_to_fs  # type: ignore[import-untyped, unused-ignore]

from include.errors import BadConfiguration, RagworksError, ServiceUnavailable
from include.sources.location import Entry, guarded, hidden
from include.sources.source import Unreadable

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterable, Iterator, Mapping

logger = logging.getLogger(__name__)

# What the file systems call their content versions. Not racy as local files are: an etag is the content's, and the
# clock of a store that has only times is not ours to compare with.
_VERSIONS = (
    "ETag", "etag", "md5Hash", "content_md5", "Content-MD5", "sha", "CRC", "generation", "LastModified",
    "last_modified", "Last-Modified", "updated", "mtime", "modified", "modify", "client_modified", "date_time",
    "created",
)  # fmt: skip
_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "CredentialRetrievalError"}  # botocore's


class _Outdated(Unreadable):
    """The object is another one by now than the listing that the file system keeps says."""


class RemoteFolder:
    """A folder, or one file where ``single`` allows it, at an fsspec URL.

    :param url: as the person wrote it.
    :param options: for the file system's constructor: credentials, endpoint.
    :param single: whether ``url`` may be a file.
    :raises BadConfiguration: the protocol is unknown or its package is not installed.
    """

    def __init__(self, url: str, options: Mapping[str, Any], *, single: bool) -> None:
        self._url, self._single = _without_secrets(url), single
        try:
            self._fs, root = url_to_fs(url, **options)
        except (ImportError, ValueError, TypeError) as error:
            fix = "Correct it, or install that package"
            raise BadConfiguration(f"source.path {self._url}", _reason(error), fix) from error
        self._root = str(root).rstrip("/")

    def walk(self, wanted: Callable[[str], bool]) -> Iterator[Entry]:
        """Every wanted file. A store that lists a tree in one call is held in memory as it answers."""
        try:
            top = self._top()
            if top["type"] == "directory":
                yield from self._told(self._walk(wanted))
                return
            if self._single:
                yield from self._told([self._entry(self._root.rsplit("/", 1)[-1], top)])
                return
        except RagworksError:
            raise
        except Exception as error:  # every store has its own family of exceptions
            raise self._listing_failed(error) from error
        fix = "Name the folder, and the file in source.glob"
        raise BadConfiguration(f"source.path {self._url}", "not a folder", fix)

    def open(self, uri: str) -> io.BufferedReader:
        """The file's bytes."""

        def translate(error: Exception) -> RagworksError:
            if isinstance(error, FileNotFoundError) and not _outage(error):
                return Unreadable(f"cannot read {uri}: it is gone since it was listed; run again")
            if isinstance(error, PermissionError | IsADirectoryError):
                return Unreadable(f"cannot read {uri}: {_reason(error)}; let this user read it, or exclude it")
            if type(error).__name__ == "FileExpired":  # s3fs reads on condition of the etag that it listed
                return _Outdated(f"cannot read {uri}: it changed while it was read; run again")
            return self._unavailable(error)

        try:
            return self._open(uri, translate)
        except _Outdated:
            self._fs.invalidate_cache()
            return self._open(uri, translate)

    def _open(self, uri: str, translate: Callable[[Exception], RagworksError]) -> io.BufferedReader:
        try:
            path = f"{self._root}/{uri}" if self._is_folder(uri) else self._root
            stream = guarded(self._fs.open(path, "rb"), translate)
        except Exception as error:
            raise translate(error) from error
        stream.peek(1)  # the first request is sent here, where it can be sent again
        return stream

    def _walk(self, wanted: Callable[[str], bool]) -> Iterator[Entry]:
        for info in self._infos():
            uri = str(info["name"])[len(self._root) :].removeprefix("/")  # a key may begin with a slash of its own
            if info["type"] != "file" or uri.endswith("/"):  # a console's "folder" is an empty object
                continue
            if not any(hidden(part) for part in uri.split("/")) and wanted(uri.lstrip("/")):
                yield self._entry(uri, info)

    def _infos(self) -> Iterable[dict[str, Any]]:
        if _lists_flat(self._fs):
            yield from self._fs.find(self._root, detail=True).values()
            return
        folders, seen = [self._root], {self._root}
        while folders:
            for info in self._fs.ls(folders.pop() or "/", detail=True):
                name = str(info["name"]).rstrip("/")
                if info["type"] == "directory" and name not in seen:
                    seen.add(name)
                    folders.append(name)
                yield info

    def _entry(self, uri: str, info: dict[str, Any]) -> Entry:
        if info.get("size") is None or not _version(info):
            info = self._fs.info(info["name"])  # a listing over HTTP has names only
        size, version = int(info.get("size") or 0), _version(info)
        return Entry(uri, size, f"{size}-{version}", "" if version else f":racy-{uuid.uuid4().hex}")

    def _told(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        unknown = 0
        for entry in entries:
            unknown += bool(entry.racy)
            yield entry
        if unknown:
            logger.warning("%s tells no etag or time of %d files: they are read in every run", self._url, unknown)

    def _is_folder(self, uri: str) -> bool:
        return not (self._single and self._root.rsplit("/", 1)[-1] == uri and not self._fs.isdir(self._root))

    def _top(self) -> dict[str, Any]:
        self._fs.invalidate_cache()  # file systems are kept for the process, with their old listings
        try:
            top: dict[str, Any] = self._fs.info(self._root or "/")
        except FileNotFoundError as error:
            if _outage(error):
                raise
            fix = "Create it or correct source.path"
            why = _reason(error) if error.__cause__ else ""  # there may be no bucket
            raise BadConfiguration(f"source.path {self._url} does not exist", why, fix) from error
        return top

    def _listing_failed(self, error: Exception) -> RagworksError:
        if isinstance(error, PermissionError):
            fix = "Correct the credentials or the store's policy"
            return BadConfiguration(f"source.path {self._url}", f"no permission: {_reason(error)}", fix)
        if type(error).__name__ in _NO_CREDENTIALS:
            fix = "Name an Airflow connection in source.conn_id, or set the variables that the store's package reads"
            return BadConfiguration(f"source.path {self._url}", f"no credentials: {_reason(error)}", fix)
        return self._unavailable(error)

    def _unavailable(self, error: Exception) -> ServiceUnavailable:
        fix = "Check the network and try again"
        return ServiceUnavailable(f"cannot read source.path {self._url}", _reason(error), fix)


def _lists_flat(fs: fsspec.AbstractFileSystem) -> bool:
    """Whether the store lists a whole tree in one call.

    The find that others inherit goes folder by folder and leaves out, in silence, each folder below the first whose
    listing failed (fsspec's walk does not pass its ``on_error`` down): a part of the listing would look like deletions.
    """
    if isinstance(fs, AsyncFileSystem):
        return type(fs)._find is not AsyncFileSystem._find
    return bool(type(fs).find is not fsspec.AbstractFileSystem.find)


def _version(info: dict[str, Any]) -> str:
    return ",".join(f"{key}={info[key]}" for key in _VERSIONS if info.get(key) not in (None, ""))


def _outage(error: BaseException) -> bool:
    """Whether "not found" only means that nobody answered: fsspec's HTTP says so of a refused connection."""
    cause = error.__cause__
    if cause is None:
        return False
    status = getattr(cause, "status", None)  # aiohttp's, of an answer
    if isinstance(status, int):
        return status not in (404, 410)
    broken = isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError)
    return broken or any("ConnectionError" in kind.__name__ for kind in type(cause).__mro__) or _outage(cause)


def _reason(error: Exception) -> str:
    cause = f" ({type(error.__cause__).__name__} {error.__cause__})" if error.__cause__ else ""
    return _without_secrets(" ".join(f"{type(error).__name__} {error}{cause}".split())[:300])


def _without_secrets(text: str) -> str:
    """Without the ``user:password@`` that URLs may carry: messages reach logs and tables."""
    return re.sub(r"//[^/@\s]*@", "//", text)

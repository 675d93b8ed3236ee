"""Files on this machine, walked with scandir: as fast as fsspec's find, which leaves out folders it cannot read."""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
import uuid
from typing import TYPE_CHECKING

from include.errors import BadConfiguration, ServiceUnavailable
from include.sources.location import Entry, guarded, hidden
from include.sources.source import Unreadable

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from include.errors import RagworksError

logger = logging.getLogger(__name__)

# A file written twice within one tick of the file system's clock keeps its mtime and may keep its size; git has the
# same problem with its index (git's Documentation/technical/racy-git). Ticks: 1 to 10 ms on Linux, 2 s on FAT.
_RACY_NS = 50_000_000
_RACY_WHOLE_SECONDS_NS = 2_000_000_000

_OF_ONE_FILE = {
    errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO,
}  # fmt: skip
_NOT_A_FOLDER = ("not a folder", "Name the folder, and the file in source.glob")


class LocalFolder:
    """A folder, or one file where ``single`` allows it.

    :param root: absolute path.
    :param shown: ``source.path`` as the person wrote it.
    :param single: whether ``root`` may be a file.
    """

    def __init__(self, root: Path, shown: str, *, single: bool) -> None:
        self._root, self._shown, self._single = root, shown, single

    def walk(self, wanted: Callable[[str], bool]) -> Iterator[Entry]:
        """Every wanted file; links to files are followed, links to folders are not (they may be loops)."""
        try:
            status = os.stat(self._root)
            if stat.S_ISDIR(status.st_mode):
                yield from self._walk(wanted)
                return
        except OSError as error:
            raise self._listing_failed(error) from error
        if stat.S_ISREG(status.st_mode) and self._single:
            yield _entry(_readable(self._root.name), status)
            return
        raise BadConfiguration(f"source.path {self._shown}", *_NOT_A_FOLDER)

    def open(self, uri: str) -> io.BufferedReader:
        """The file's bytes."""
        path = self._root / uri if self._root.is_dir() else self._root

        def translate(error: Exception) -> RagworksError:
            return _reading_failed(uri, error)

        try:  # a named pipe put there since the listing must not hang the run: O_NONBLOCK
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise translate(error) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise Unreadable(f"cannot read {uri}: it is not a regular file; remove it or exclude it with source.glob")
        return guarded(os.fdopen(descriptor, "rb", buffering=0), translate)

    def _walk(self, wanted: Callable[[str], bool]) -> Iterator[Entry]:
        skipped, first = 0, ""
        for uri, item in _files(os.fspath(self._root)):
            if item is None:
                skipped, first = skipped + 1, first or uri
            elif wanted(uri) and (status := _status(item)) is not None:
                yield _entry(uri, status)
        if skipped:
            logger.warning("skipped %d links to folders or special files under %s, first %s", skipped, self._shown, first)

    def _listing_failed(self, error: OSError) -> RagworksError:
        where = os.fspath(error.filename) if error.filename else os.fspath(self._root)
        if isinstance(error, FileNotFoundError | NotADirectoryError) and where == os.fspath(self._root):
            return BadConfiguration(
                f"source.path {self._shown} does not exist", f"nothing at {_readable(where)}",
                "Create it or correct source.path; a relative path starts at the project's root",
            )  # fmt: skip
        if isinstance(error, PermissionError):
            return BadConfiguration(
                f"source.path {self._shown}", f"no permission to read {_readable(where)}",
                "Let the user that runs this read it, with all its folders",
            )  # fmt: skip
        return ServiceUnavailable(
            f"cannot list source.path {self._shown}", f"{error.strerror} ({_readable(where)})", "Try again"
        )


def _files(root: str) -> Iterator[tuple[str, os.DirEntry[str] | None]]:
    """(uri, entry) of all files that are not hidden; (uri, None) of what is neither a file nor a folder."""
    folders = [("", root)]
    while folders:
        prefix, folder = folders.pop()
        with os.scandir(folder) as items:
            for item in items:
                if hidden(item.name):
                    continue
                uri = prefix + _readable(item.name)
                if item.is_dir(follow_symlinks=False):
                    folders.append((uri + "/", item.path))
                else:
                    yield uri, item if _is_document(item) else None


def _is_document(item: os.DirEntry[str]) -> bool:
    """A file, a link to one, or a link to nothing (listed, so that its document is reported and not deleted)."""
    try:
        return item.is_file() or (item.is_symlink() and not os.path.exists(item.path))
    except OSError:
        return item.is_symlink()


def _status(item: os.DirEntry[str]) -> os.stat_result | None:
    """What a file is now; None when it was deleted since its folder was read."""
    try:
        return item.stat()
    except OSError as error:
        if item.is_symlink() and error.errno in _OF_ONE_FILE:
            return item.stat(follow_symlinks=False)
        if error.errno == errno.ENOENT:
            return None
        raise


def _entry(uri: str, status: os.stat_result) -> Entry:
    version = f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}-{status.st_ino}"
    return Entry(uri, status.st_size, version, _racy(status.st_mtime_ns, time.time_ns()))


def _racy(mtime_ns: int, now_ns: int) -> str:
    window = _RACY_NS if mtime_ns % 1_000_000_000 else _RACY_WHOLE_SECONDS_NS
    return f":racy-{uuid.uuid4().hex}" if abs(now_ns - mtime_ns) <= window else ""


def _readable(name: str) -> str:
    r"""``name`` as text that can be stored: bytes that are not UTF-8 become ``\xNN``."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "backslashreplace")


def _reading_failed(uri: str, error: Exception) -> RagworksError:
    if not isinstance(error, OSError) or error.errno not in _OF_ONE_FILE:
        return ServiceUnavailable(f"cannot read {uri}", getattr(error, "strerror", None) or str(error), "Try again")
    if error.errno == errno.ENOENT and "\\x" in uri:
        return Unreadable(f"cannot read {uri}: its name is not valid UTF-8; rename it")
    if error.errno == errno.ENOENT:
        return Unreadable(f"cannot read {uri}: it is gone since it was listed, or a link to nothing; run again")
    return Unreadable(f"cannot read {uri}: {error.strerror}; let the user that runs this read it, or exclude it")

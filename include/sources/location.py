"""What files and jsonl sources need of a place that holds files, whatever store it is."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol

from fsspec.utils import glob_translate  # type: ignore[import-untyped, unused-ignore]

from include.errors import BadConfiguration
from include.sources.source import SourceObject
from include.sources.spool import in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from _typeshed import WriteableBuffer

    from include.errors import RagworksError


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a listing.

    :param version: changes when the content may have changed.
    :param racy: suffix that never repeats, for a file that may still change without its version changing; usually "".
    """

    uri: str
    size: int
    version: str
    racy: str = ""

    def fingerprint(self, parser: str) -> str:
        """The object's fingerprint: content version and parser version."""
        return f"{self.version}|{parser}{self.racy}"


class Location(Protocol):
    """A folder, or a single file, in some store."""

    def walk(self, wanted: Callable[[str], bool]) -> Iterator[Entry]:
        """All files whose uri is wanted, hidden ones aside, in any order.

        :raises BadConfiguration: the path does not exist or may not be read.
        :raises ServiceUnavailable: the store does not answer.
        """
        ...

    def open(self, uri: str) -> io.BufferedReader:
        """The file's bytes; opening and every later read raise only errors of ours.

        :raises Unreadable: this file is gone or may not be read.
        :raises ServiceUnavailable: the store does not answer.
        """
        ...


def listed(entries: Iterable[Entry], parser: Callable[[Entry], str]) -> Iterator[SourceObject]:
    """The objects of a whole walk, sorted by uri; they wait in a temporary file.

    :param parser: which version of a parser reads an entry.
    """
    rows = ((entry.uri, entry.fingerprint(parser(entry)), entry.size) for entry in entries)
    return (SourceObject(*row) for row in in_order(rows, 3))


class _Guarded(io.RawIOBase):
    """Turns a store's exceptions into ours where they happen, so that no caller mistakes its own bug for an outage."""

    def __init__(self, stream: BinaryIO, translate: Callable[[Exception], RagworksError]) -> None:
        self._stream, self._translate = stream, translate

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        try:  # not readinto: few stores' streams have it
            data = self._stream.read(len(view))
        except Exception as error:
            raise self._translate(error) from error
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


def guarded(stream: BinaryIO, translate: Callable[[Exception], RagworksError]) -> io.BufferedReader:
    """``stream`` with its read errors translated."""
    return io.BufferedReader(_Guarded(stream, translate), buffer_size=1 << 17)


def hidden(name: str) -> bool:
    """Files and folders with a leading dot are not documents."""
    return name.startswith(".")


def compile_glob(glob: str) -> Callable[[str], bool]:
    """A test of uris: ``*``, ``?`` and ``[…]`` as in fnmatch but inside one path segment, ``**`` for folders or none.

    :raises BadConfiguration: ``**`` is only a part of a segment.
    """
    try:
        pattern = re.compile(glob_translate(glob))
    except (ValueError, re.error) as error:
        raise BadConfiguration(f"source.glob {glob!r}", str(error), "Write for example '**/*.md'") from error
    return lambda uri: pattern.match(uri) is not None

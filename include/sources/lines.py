"""Lines of a jsonl file, plain or gzipped, in bounded memory whatever the file holds."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.sources.source import Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import WriteableBuffer

_GZIP = b"\x1f\x8b"
_SKIP = 1 << 16  # bytes held while a line over the limit is passed over


class Truncated(Unreadable):
    """Compressed data end early or are damaged; the lines before were given."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line without its end.

    :param number: from 1.
    :param data: b"" when the line is over the limit.
    :param size: bytes of the whole line, whether held or not.
    """

    number: int
    data: bytes
    size: int


class _Inflated(io.RawIOBase):
    """Gives what one read inflates before the next is tried, so that the rows before a break are not lost with it."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._gzip = gzip.GzipFile(fileobj=stream, mode="rb")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        data = self._gzip.read1(len(view))
        view[: len(data)] = data
        return len(data)


def read_lines(stream: io.BufferedReader, name: str, limit: int) -> Iterator[Line]:
    """Every line that is not blank.

    :param name: of the file, for messages and for its suffix.
    :param limit: bytes; a longer line is passed over and comes out without data.
    :raises Truncated: the rest cannot be read.
    :raises Unreadable: nothing can be read: another encoding, or not gzip in spite of its name.
    """
    number = 0
    try:
        lines = _inflate(stream, name)
        _skip_mark(lines, name)
        while (line := _next(lines, number + 1, limit)) is not None:
            number += 1
            if line.size > limit or line.data.strip():
                yield line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        what = f"{name}: the gzip data end early or are damaged after line {number} ({error})"
        raise Truncated(f"{what}; the rows after it are not read, copy the file again") from error


def _inflate(stream: io.BufferedReader, name: str) -> io.BufferedReader:
    head = stream.peek(2)[:2]
    if head == _GZIP:
        return io.BufferedReader(_Inflated(stream), buffer_size=1 << 17)
    if not name.lower().endswith(".gz"):
        return stream
    if not head:
        raise EOFError("the file is empty")
    raise Unreadable(f"{name} ends in .gz but is not gzip; compress it or rename it")


def _skip_mark(lines: io.BufferedReader, name: str) -> None:
    head = lines.peek(4)[:4]
    if head.startswith(codecs.BOM_UTF8):
        lines.read(len(codecs.BOM_UTF8))
    elif head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)):
        raise Unreadable(f"{name} is UTF-16 or UTF-32, JSON lines are UTF-8; convert it")


def _next(lines: io.BufferedReader, number: int, limit: int) -> Line | None:
    data = lines.readline(limit + 2)  # a row at the limit and its \r\n
    if not data:
        return None
    row = data.rstrip(b"\r\n")
    if len(data) < limit + 2 or data.endswith(b"\n"):
        return Line(number, b"" if len(row) > limit else row, len(row))
    size, tail = len(data), data[-1:]
    while part := lines.readline(_SKIP):
        size, tail = size + len(part), (tail + part)[-2:]
        if part.endswith(b"\n"):
            break
    return Line(number, b"", size - len(tail) + len(tail.rstrip(b"\r\n")))

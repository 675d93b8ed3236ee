"""Rows of JSON lines: one row is one document, streamed."""

from __future__ import annotations

from dataclasses import replace
from hashlib import blake2b
from typing import TYPE_CHECKING

from include.sources.lines import Truncated, read_lines
from include.sources.location import compile_glob, listed
from include.sources.rows import parse_row
from include.sources.source import Document, Unreadable, one_by_one, too_large, unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from include.sources.lines import Line
    from include.sources.location import Location
    from include.sources.source import SourceObject

_PARSER = "jsonl:1"  # raise it when the same row may become another document


class JsonlSource:
    """One jsonl file, plain or gzipped, or all of a folder that match.

    :param location: the file or the folder.
    :param glob: which files of a folder.
    :param max_bytes: a longer row is refused; the file may have any size.
    """

    def __init__(self, location: Location, glob: str, max_bytes: int) -> None:
        self._location, self._max_bytes = location, max_bytes
        self._matches = compile_glob(glob)

    def listing(self) -> Iterator[SourceObject]:
        """Every jsonl file, sorted by uri."""
        parser = f"{_PARSER}:rows-{self._max_bytes}"  # so that another limit reads the rows again
        return listed(self._location.walk(self._matches), lambda _: parser)

    def read(self, obj: SourceObject) -> Iterator[Document]:
        """The rows of one file in their order; of those with the same id the first stands, the others are problems."""
        first_seen: dict[int, int] = {}
        try:
            with self._location.open(obj.uri) as stream:
                for line in read_lines(stream, obj.uri, self._max_bytes):
                    yield self._document(line, obj.uri, first_seen)
        except Truncated as error:
            yield unreadable(f"{obj.uri}#truncated", obj.uri, error, size=obj.size)
        except Unreadable as error:
            yield unreadable(obj.uri, obj.uri, error, size=obj.size)

    def read_many(self, objects: Sequence[SourceObject]) -> Iterator[tuple[SourceObject, Iterator[Document]]]:
        """Each file with its documents."""
        return one_by_one(self, objects)

    def _document(self, line: Line, object_uri: str, first_seen: dict[int, int]) -> Document:
        if line.size > self._max_bytes:
            locator = f"line {line.number}"
            error = too_large(locator, line.size, self._max_bytes, "row")
            return unreadable(f"{object_uri}#L{line.number}", object_uri, error, size=line.size, locator=locator)
        document = parse_row(line, object_uri)
        if document.problem and document.uri == f"{object_uri}#L{line.number}":
            return document  # its id is not known
        first = first_seen.setdefault(_hash(document.uri), line.number)
        if first == line.number:
            return document
        problem = f"duplicate id: first seen at line {first}; give each row its own id"
        return replace(document, text="", metadata={}, acl=None, problem=problem)


def _hash(uri: str) -> int:
    """64 bits: among a million ids two meet with a chance of 3 in 100 million; a set of the ids would hold them all."""
    return int.from_bytes(blake2b(uri.encode(), digest_size=8).digest(), "big")

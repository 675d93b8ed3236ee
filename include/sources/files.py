"""A folder of documents: one file is one document."""

from __future__ import annotations

import logging
import posixpath
from collections import Counter
from typing import TYPE_CHECKING

from include.sources.location import compile_glob, listed
from include.sources.parse import parse, parser_fingerprint, type_of
from include.sources.source import Document, Unreadable, one_by_one, too_large, unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from include.sources.location import Entry, Location
    from include.sources.source import SourceObject

logger = logging.getLogger(__name__)


class FilesSource:
    """Markdown, text, HTML, PDF and DOCX files below a location.

    :param location: where they are.
    :param glob: which of them, by their path below it.
    :param max_bytes: a larger file is not opened.
    """

    def __init__(self, location: Location, glob: str, max_bytes: int) -> None:
        self._location, self._max_bytes = location, max_bytes
        self._matches = compile_glob(glob)

    def listing(self) -> Iterator[SourceObject]:
        """Every document file, sorted by uri; files of other types are counted in one log line."""
        ignored: Counter[str] = Counter()

        def wanted(uri: str) -> bool:
            if not self._matches(uri):
                return False
            if type_of(uri) is None:
                ignored[posixpath.splitext(uri)[1].lower() or "(none)"] += 1
                return False
            return True

        objects = listed(self._location.walk(wanted), self._parser)
        if ignored:
            types = ", ".join(f"{suffix} ({count})" for suffix, count in sorted(ignored.items()))
            logger.info("ignored %d files of types %s", ignored.total(), types)
        return objects

    def read(self, obj: SourceObject) -> Iterator[Document]:
        """The one document of a file."""
        kind = type_of(obj.uri) or "text"
        try:
            raw = self._bytes(obj)
            parsed = parse(raw, obj.uri, kind, self._max_bytes)
        except Unreadable as error:
            yield unreadable(obj.uri, obj.uri, error, metadata={"path": obj.uri, "type": kind}, size=obj.size)
            return
        yield Document(obj.uri, obj.uri, parsed.text, parsed.metadata, size=len(raw))

    def read_many(self, objects: Sequence[SourceObject]) -> Iterator[tuple[SourceObject, Iterator[Document]]]:
        """Each file with its documents."""
        return one_by_one(self, objects)

    def _parser(self, entry: Entry) -> str:
        parser = parser_fingerprint(type_of(entry.uri) or "text")
        if entry.size > self._max_bytes:
            parser += f":over-{self._max_bytes}"  # so that raising the limit reads it
        return parser

    def _bytes(self, obj: SourceObject) -> bytes:
        if obj.size > self._max_bytes:
            raise too_large(obj.uri, obj.size, self._max_bytes, "file")
        with self._location.open(obj.uri) as stream:
            raw = stream.read(obj.size + 1)
            if len(raw) > obj.size:  # grown since it was listed, or of unknown size
                raw += stream.read(self._max_bytes - obj.size)
        if len(raw) > self._max_bytes:
            limited = f"the limit validation.max_bytes of {self._max_bytes:,}"
            raise Unreadable(f"{obj.uri} is over {limited}; raise it or split the file")
        return raw

"""A source whose documents carry no personal data, whatever source it stands before."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from include.privacy.scrub import open_scrubber

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from include.collection_file import Privacy
    from include.privacy.scrub import Scrubber
    from include.sources.source import Document, Json, Source, SourceObject


_LEAST = 10**8  # nine digits: the shortest number of any kind


def scrubbed(source: Source, privacy: Privacy) -> Source:
    """The source behind the collection's scrubber; the source itself when nothing is to be scrubbed.

    :raises BadConfiguration: an unknown kind in ``privacy.scrub``.
    """
    scrubber = open_scrubber(privacy)
    return ScrubbedSource(source, scrubber) if scrubber else source


class ScrubbedSource:
    """Scrubs text, metadata and messages; uris, metadata keys and access lists stay as they are.

    :param source: where the documents come from.
    :param scrubber: what is taken out; its fingerprint is part of every object's, so that another one reads all again.
    """

    def __init__(self, source: Source, scrubber: Scrubber) -> None:
        self._source, self._scrubber = source, scrubber
        self._suffix = f"|scrub:{scrubber.fingerprint}"

    def listing(self) -> Iterator[SourceObject]:
        """Every object, as the source lists it."""
        return (replace(obj, fingerprint=obj.fingerprint + self._suffix) for obj in self._source.listing())

    def read(self, obj: SourceObject) -> Iterator[Document]:
        """The scrubbed documents of one object."""
        return map(self._clean, self._source.read(self._bare(obj)))

    def read_many(self, objects: Sequence[SourceObject]) -> Iterator[tuple[SourceObject, Iterator[Document]]]:
        """Each object, as it was asked for, with its scrubbed documents."""
        asked = {obj.uri: obj for obj in objects}
        for obj, documents in self._source.read_many([self._bare(obj) for obj in objects]):
            yield asked[obj.uri], map(self._clean, documents)

    def _bare(self, obj: SourceObject) -> SourceObject:
        return replace(obj, fingerprint=obj.fingerprint.removesuffix(self._suffix))

    def _clean(self, document: Document) -> Document:
        counts: Counter[str] = Counter()
        uncounted: Counter[str] = Counter()
        return replace(
            document,
            text=self._text(document.text, counts),
            metadata={
                key: self._json(value, uncounted if _is_repeated(key, value, document) else counts)
                for key, value in document.metadata.items()
            },
            locator=self._text(document.locator, counts),
            problem=self._text(document.problem, counts),
            scrubbed=dict(counts),
        )

    def _text(self, text: str, counts: Counter[str]) -> str:
        clean, found = self._scrubber.scrub(text)
        counts.update(found)
        return clean

    def _json(self, value: Json, counts: Counter[str]) -> Json:
        """Scrubbed strings; a number that is personal data, such as a card's, becomes a string."""
        if isinstance(value, dict):
            return {key: self._json(inner, counts) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._json(inner, counts) for inner in value]
        if isinstance(value, str):
            return self._text(value, counts)
        if isinstance(value, int | float) and abs(value) >= _LEAST and value == value // 1:  # a float as JSON or SQLite gave it
            clean = self._text(str(int(value)), counts)
            return value if clean == str(int(value)) else clean
        return value


def _is_repeated(key: str, value: Json, document: Document) -> bool:
    """Whether it is the title or the path, and stands in the text or in the uri too: one value counts once."""
    if not isinstance(value, str) or not value:
        return False
    if key == "path":
        return value in (document.uri, document.object_uri)
    return key == "title" and (value in document.uri or _spaced(value) in _spaced(document.text))


def _spaced(text: str) -> str:
    return " ".join(text.split())

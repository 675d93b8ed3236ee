"""Text of golden documents under another name: documents are told by their names, passages that a file gives are not.

A passage of a document that the index holds is compared as a document. One of a document that it does not hold has nothing but
its text, which is looked for in the texts of the golden documents.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from include.datasets.filters import normalised
from include.hashing import text_hash
from include.indexing.near_duplicates import MIN_WORDS, SHINGLE_WORDS, shingles
from include.store import answering_passages

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from uuid import UUID

    from numpy.typing import NDArray

    from include.datasets.kept_out import Golden
    from include.store.generations import Generation
    from include.store.pool import Connection

ENOUGH = MIN_WORDS - SHINGLE_WORDS + 1  # word triples from which a share of them says that two texts are of one source
FEWEST = 6  # word triples, eight words in a row: a shorter passage may stand in a document by chance


class GoldenText:
    """Tells whether a passage is taken from a golden document, or holds one.

    :param texts: uri → text of golden documents.
    :param spans: uri → characters that answer golden queries; (None, None): all of it.
    :param threshold: share of common word triples from which two texts are one: of the shorter one's.
    """

    def __init__(
        self, texts: Mapping[str, str], spans: Mapping[str, Iterable[tuple[int | None, int | None]]], threshold: float
    ) -> None:
        self._texts, self._threshold = texts, threshold
        self._quotes: dict[UUID, str] = {}
        for uri, text in texts.items():
            for start, end in spans.get(uri, ()):
                self._quotes.setdefault(text_hash(normalised(text[start:end])), uri)

    def source(self, passage: str, *, known: bool) -> str | None:
        """The golden document that a passage is taken from, None if it is not.

        :param known: the index holds the document that the passage is said to be of, which was compared as a whole: only what
            a golden query asks for, word by word, is told here.
        """
        if not self._texts:
            return None
        quoted = self._quotes.get(text_hash(normalised(passage)))
        return quoted if quoted is not None or known else self._alike(passage)

    def _alike(self, passage: str) -> str | None:
        own = np.fromiter(shingles(normalised(passage)), dtype=np.int64)
        if len(own) < FEWEST:
            return None
        triples, places, sizes, names = self._triples
        first, last = np.searchsorted(triples, own, "left"), np.searchsorted(triples, own, "right")
        found = [places[start:end] for start, end in zip(first, last, strict=True) if end > start]
        if not found:
            return None
        common = np.bincount(np.concatenate(found), minlength=len(names))
        least = np.minimum(sizes, len(own))
        # A document of a few words may stand in any passage; a passage of a few words must be in the document as it is.
        share = np.where((sizes >= ENOUGH) | (sizes >= len(own)), common / least, 0.0)
        wanted = self._threshold if len(own) >= ENOUGH else 1.0
        best = int(share.argmax())
        return names[best] if share[best] >= wanted else None

    @cached_property
    def _triples(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], list[str]]:
        """Word triples of all documents in their order, whose each is, how many each has, and their names."""
        each = [np.fromiter(shingles(normalised(text)), dtype=np.int64) for text in self._texts.values()]
        sizes = np.array([len(one) for one in each], dtype=np.int64)
        triples, places = np.concatenate(each), np.repeat(np.arange(len(each)), sizes)
        order = np.argsort(triples, kind="stable")
        return triples[order], places[order], sizes, list(self._texts)


def golden_text(connection: Connection, held: Generation | None, golden: Golden, threshold: float) -> GoldenText:
    """Of the golden documents that a generation holds."""
    texts = dict(answering_passages.texts_of(connection, held, sorted(golden.documents))) if held and golden.documents else {}
    return GoldenText(texts, golden.spans, threshold)

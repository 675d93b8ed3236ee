"""BM25 in two halves, whose inner product is the score: weights of a chunk's terms, and of a query's.

A chunk's half depends on its text and the settings alone, so an edit elsewhere changes no row; how rare a term is belongs to
the query's half. Formula as in Lucene (Kamphuis et al. 2020, "Which BM25 do you mean?"), without its constant factor:
score = sum over the query's terms of count * idf * tf / (tf + k1 * (1 - b + b * length / average)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from include.lexical.packed import MAX_TERMS, pack
from include.lexical.terms import TERMS_VERSION, analyzer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from include.collection_file import Chunking, Lexical
    from include.lexical.terms import Analyzer

TERMS_A_TOKEN = 0.25  # words without stop words in a token of all-MiniLM-L6-v2, over the five test collections


@dataclass(frozen=True, slots=True)
class BM25:
    """BM25 with the settings of one generation.

    :param average: terms in a chunk of average length.
    """

    language: str | None
    k1: float
    b: float
    average: int

    @property
    def analyzer(self) -> Analyzer:
        """Cuts texts as the chunks were cut."""
        return analyzer(self.language)

    @property
    def norm(self) -> tuple[float, float]:
        """(base, slope): a term weighs count / (count + base + slope * terms in the chunk)."""
        return self.k1 * (1 - self.b), self.k1 * self.b / self.average

    def packed(self, text: str) -> list[int]:
        """The words of a chunk as generations keep them (:func:`include.lexical.packed.pack`)."""
        return pack(self.analyzer.terms(text))

    def chunk(self, text: str) -> dict[int, float]:
        """Term → weight of a chunk, each above 0 and below 1: what generations before packed words keep."""
        counts = self.analyzer.terms(text)
        base, slope = self.norm
        norm = base + slope * counts.total()
        weights = {term: count / (count + norm) for term, count in counts.items()}
        if len(weights) > MAX_TERMS:
            weights = dict(sorted(weights.items(), key=lambda entry: -entry[1])[:MAX_TERMS])
        return weights

    def query(self, counts: Mapping[int, int], chunks_with: Mapping[int, int], chunks: int) -> dict[int, float]:
        """Term → weight of a query: no chunk scores more by a term than this. Terms that no chunk has are left out.

        :param counts: how often each term stands in the query.
        :param chunks_with: in how many chunks each stands.
        :param chunks: how many there are.
        """
        return {term: count * idf(chunks_with[term], chunks) for term, count in counts.items() if chunks_with.get(term)}


def idf(chunks_with: int, chunks: int) -> float:
    """How rare a term is that so many of the chunks have: above 0, also of one that all have."""
    return math.log(1 + (chunks - chunks_with + 0.5) / (chunks_with + 0.5))


def lexical_spec(lexical: Lexical, chunking: Chunking) -> dict[str, Any]:
    """What the lexical column of a generation depends on."""
    average = lexical.average_terms or max(1, round(TERMS_A_TOKEN * chunking.max_tokens))
    return {**lexical.model_dump(), "average_terms": average, "version": TERMS_VERSION}


def recorded(spec: Mapping[str, Any]) -> BM25 | None:
    """BM25 as a generation was built with; None for one of a release before it."""
    settings = spec.get("lexical")
    if settings is None:
        return None
    return BM25(settings["language"], settings["k1"], settings["b"], settings["average_terms"])

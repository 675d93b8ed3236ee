"""Which words a text has, and how much each of them tells: one that stands in few passages tells more (BM25's idf)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.lexical.bm25 import idf
from include.lexical.terms import analyzer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from include.lexical.terms import Analyzer


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """Words of a language, weighed over the passages that a model learned from.

    :param weights: term → idf.
    :param unseen: of a term that none of the passages has.
    :param average: terms of a passage, 1 and more.
    """

    language: str | None
    weights: Mapping[int, float]
    unseen: float
    average: float

    @property
    def analyzer(self) -> Analyzer:
        """Cuts texts into terms; made once for a language."""
        return analyzer(self.language)

    def weight(self, term: int) -> float:
        """How much it tells that a passage has this term."""
        return self.weights.get(term, self.unseen)


def vocabulary_of(language: str | None, passages: Iterable[str]) -> Vocabulary:
    """Count a vocabulary over passages; one that comes twice counts once."""
    cut, chunks_with, terms = analyzer(language), Counter[int](), 0
    distinct = dict.fromkeys(passages)
    for passage in distinct:
        found = cut.sequence(passage)
        terms += len(found)
        chunks_with.update(set(found))
    weights = {term: idf(count, len(distinct)) for term, count in sorted(chunks_with.items())}
    return Vocabulary(language, weights, idf(0, len(distinct)), max(1.0, terms / max(1, len(distinct))))

"""Scores one ranking of chunks against golden spans, so that rankings of differently cut chunks compare.

What stands in a place depends on what the query asks for. Whole documents: documents, by their best chunk. Characters:
chunks, where one that finds a span nobody found before stands for it, one that finds nothing takes a place, and one that
only finds again takes none, since more of a right answer is no noise.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from include.store.golden import GoldenQuery, GoldenSpan
    from include.store.search import Hit


def covers(hit: Hit, span: GoldenSpan) -> bool:
    """The chunk is of the span's document and overlaps it by at least half of the shorter of the two.

    Half, because then chunks that tile a document always hold one that covers: of two that share a span one has half of
    it, of three the middle one lies inside.
    """
    if hit.document != span.document:
        return False
    if span.start is None or span.end is None:
        return True
    shared = min(hit.end, span.end) - max(hit.start, span.start)
    return 2 * shared >= min(hit.end - hit.start, span.end - span.start)


def gains(hits: Sequence[Hit], query: GoldenQuery, places: int) -> list[float]:
    """The grade found at each place from the first, 0 where nothing is found; at most ``places``."""
    if all(span.start is None for span in query.spans):
        grades = {span.document: span.grade for span in query.spans}
        return [grades.get(document, 0.0) for document in dict.fromkeys(hit.document for hit in hits)][:places]
    found: set[GoldenSpan] = set()
    gained: list[float] = []
    for hit in hits:
        covered = {span for span in query.spans if covers(hit, span)}
        gained += sorted((span.grade for span in covered - found), reverse=True) if covered else [0.0]
        found |= covered
    return gained[:places]


def ndcg(gained: Sequence[float], query: GoldenQuery, places: int) -> float:
    """Normalised discounted cumulative gain, 0 to 1, linear gain as trec_eval's (which takes whole grades only)."""
    ideal = sorted((span.grade for span in query.spans), reverse=True)[:places]
    return _discounted(gained) / _discounted(ideal)


def recall(gained: Sequence[float], query: GoldenQuery) -> float:
    """Share of the spans that were found, 0 to 1."""
    return sum(gain > 0 for gain in gained) / len(query.spans)


def _discounted(gained: Iterable[float]) -> float:
    return sum(gain / math.log2(place + 2) for place, gain in enumerate(gained))

"""Shows a passage once: hits that say the same are folded into the best of them, which names the others.

Two hits say the same when their texts are identical, or when their documents are near-duplicates by their signatures and
the two texts themselves are similar. So a passage that a newer version of a page wrote anew stays beside the old one, and
pages that share a template are not taken for one.

Only hits that passed every filter come here. A document that the asker may not read is not among them, so it is never named.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from include.indexing.near_duplicates import shingles, similarity
from include.store.search import Duplicate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from include.store.search import Hit


def collapse(hits: Sequence[Hit], signatures: Callable[[], Mapping[str, bytes]], threshold: float, *, top_k: int) -> list[Hit]:
    """The ``top_k`` best different passages, best first.

    :param hits: best first.
    :param signatures: gives the signatures of the hits' documents by uri; called only when two passages are similar.
    :param threshold: Jaccard similarity from which documents, and passages, count as the same.
    """
    shown = _Shown(threshold, signatures)
    for hit in hits:
        shown.take(hit, top_k)
    return [replace(h, duplicates=_named(d)) if d else h for h, d in zip(shown.hits, shown.duplicates, strict=True)]


@dataclass(slots=True)
class _Shown:
    """The passages that are shown, and how to find one that is like another.

    Two sets whose Jaccard similarity is t or more share an element among the first ``n - ceil(t n) + 1`` of each, in any
    common order: only these are looked up (prefix filter: Chaudhuri, Ganti, Kaushik 2006). So the work grows with the hits,
    not with their square.
    """

    threshold: float
    signatures: Callable[[], Mapping[str, bytes]]
    hits: list[Hit] = field(default_factory=list)
    duplicates: list[list[Hit]] = field(default_factory=list)
    _shingles: list[set[int]] = field(default_factory=list)
    _by_text: dict[str, int] = field(default_factory=dict)  # shown and folded ones
    _by_prefix: dict[int, list[int]] = field(default_factory=dict)
    _signatures: Mapping[str, bytes] | None = None

    def take(self, hit: Hit, top_k: int) -> None:
        """Fold the hit into the best shown one that says the same, or show it, if there is room."""
        position = self._by_text.get(hit.text)
        if position is None:
            words = shingles(hit.text)
            prefix = sorted(words)[: len(words) - math.ceil(self.threshold * len(words)) + 1]
            position = self._similar(hit, words, prefix)
            if position is None:
                if len(self.hits) < top_k:
                    self._show(hit, words, prefix)
                return
            self._by_text[hit.text] = position
        self.duplicates[position].append(hit)

    def _show(self, hit: Hit, words: set[int], prefix: list[int]) -> None:
        position = self._by_text[hit.text] = len(self.hits)
        for shingle in prefix:
            self._by_prefix.setdefault(shingle, []).append(position)
        self.hits.append(hit)
        self.duplicates.append([])
        self._shingles.append(words)

    def _similar(self, hit: Hit, words: set[int], prefix: list[int]) -> int | None:
        for position in sorted({p for s in prefix for p in self._by_prefix.get(s, ())}):
            other = self._shingles[position]
            common = len(words & other)
            if common >= self.threshold * (len(words) + len(other) - common) and self._copies(self.hits[position], hit):
                return position
        return None

    def _copies(self, one: Hit, other: Hit) -> bool:
        """Whether the documents are near-duplicates; passages of one document that differ are meant to."""
        if one.document == other.document:
            return False
        if self._signatures is None:
            self._signatures = self.signatures()
        signed = self._signatures
        return similarity(signed.get(one.document, b""), signed.get(other.document, b"")) >= self.threshold


def _named(hits: Sequence[Hit]) -> tuple[Duplicate, ...]:
    return tuple(Duplicate(h.document, h.ordinal, h.start, h.end, h.score) for h in hits)

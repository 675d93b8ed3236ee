"""A chunk's words as sorted integers: how often each stands in it, and how many there are, in four bytes a different word.

Sorted, so that the server finds a word by binary search (``width_bucket``) and weighs it (``ragworks.weight``, SQL). A
sparsevec of the weights takes twice as much, and what a word weighs follows from these numbers anyway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# An int4 has room for four values beside a term (1 to 10⁹), and above those for two other kinds of entries.
TERM_SHIFT = 2**29  # a term's entry is (term - TERM_SHIFT) * 4 + min(count, 4) - 1
COUNT_BASE, COUNT_STEP = 1_853_000_000, 16_384  # + position of a term's entry, from 1 * COUNT_STEP + its count, if 4 or more
LENGTH_BASE = 2_116_000_000  # + terms in the chunk, repeated ones as often as they stand in it: the last entry of all
MAX_COUNT, MAX_LENGTH = COUNT_STEP - 1, 2**31 - 1 - LENGTH_BASE
MAX_TERMS = 16_000  # entries of terms: above, a position would reach LENGTH_BASE
INLINE = 4  # counts from here on stand in an entry of their own


def entry(term: int, count: int) -> int:
    """The entry of a term that stands so often in a chunk."""
    return (term - TERM_SHIFT) * 4 + min(count, INLINE) - 1


def pack(counts: Mapping[int, int]) -> list[int]:
    """The entries of a chunk, ascending; of more than MAX_TERMS different terms the most frequent.

    :param counts: term → how often it stands in the chunk, at least 1.
    """
    length = min(sum(counts.values()), MAX_LENGTH)
    if len(counts) > MAX_TERMS:
        counts = dict(sorted(counts.items(), key=lambda item: -item[1])[:MAX_TERMS])
    shift = TERM_SHIFT * 4 + 1
    entries = sorted([term * 4 - shift + (count if count < INLINE else INLINE) for term, count in counts.items()])
    often = []
    if max(counts.values(), default=0) >= INLINE:
        terms = sorted(counts)
        often = [
            COUNT_BASE + position * COUNT_STEP + min(counts[term], MAX_COUNT)
            for position, term in enumerate(terms, 1)
            if counts[term] >= INLINE
        ]
    return [*entries, *often, LENGTH_BASE + length]

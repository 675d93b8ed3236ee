"""How alike two rankings are: of one question, by two ways of answering it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.store.search import Hit

DEPTH = 10
PERSISTENCE = 0.9  # of rank-biased overlap: the first ten ranks have 86 % of its weight
SAME = 0.5  # share of the shorter of two passages that both have, from which they are one


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of two rankings.

    :param depth: places that were compared at most.
    :param overlap: share of the longer list that is in both, 0 to 1; of two empty ones 1.
    :param rbo: extrapolated rank-biased overlap, 0 to 1.
    :param same_first: both begin with the same passage.
    """

    depth: int
    overlap: float
    rbo: float
    same_first: bool


def agreement(live: Sequence[Hit], other: Sequence[Hit], *, depth: int = DEPTH) -> Agreement:
    """Compare what two searches found. Passages are the same when they lie over each other: models cut differently."""
    one, two = live[:depth], other[:depth]
    names = list(range(len(one)))
    theirs = _named(one, two)
    common = len(set(names) & set(theirs))
    longest = max(len(one), len(two))
    return Agreement(
        depth,
        common / longest if longest else 1.0,
        rank_biased_overlap(names, theirs),
        not longest or names[:1] == theirs[:1],
    )


def rank_biased_overlap(one: Sequence[int], two: Sequence[int], p: float = PERSISTENCE) -> float:
    """Extrapolated rank-biased overlap of two rankings, which may differ in length: 0 to 1, of two empty ones 1.

    Webber, Moffat and Zobel, "A similarity measure for indefinite rankings" (ACM TOIS 28, 2010), equation 32.

    :param one: items, best first, none twice.
    """
    short, long = sorted((one, two), key=len)
    s, n = len(short), len(long)
    if not s:
        return float(not n)
    common = [len(set(short[:d]) & set(long[:d])) for d in range(1, n + 1)]
    at_s, at_n = common[s - 1], common[n - 1]
    total = sum(x / d * p**d for d, x in enumerate(common, 1))
    total += sum(at_s * (d - s) / (s * d) * p**d for d in range(s + 1, n + 1))
    return min(1.0, (1 - p) / p * total + ((at_n - at_s) / n + at_s / s) * p**n)


def _named(one: Sequence[Hit], two: Sequence[Hit]) -> list[int]:
    """The places in ``one`` of the same passages, each taken once; others get numbers of their own."""
    free = dict(enumerate(one))
    names = []
    for number, hit in enumerate(two):
        place = next((n for n, live in free.items() if _same(live, hit)), None)
        if place is None:
            names.append(len(one) + number)
        else:
            del free[place]
            names.append(place)
    return names


def _same(one: Hit, two: Hit) -> bool:
    if one.document != two.document:
        return False
    shared = min(one.end, two.end) - max(one.start, two.start)
    return shared >= SAME * min(one.end - one.start, two.end - two.start) and shared > 0

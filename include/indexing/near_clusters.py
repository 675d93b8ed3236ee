"""Finds clusters among very many signatures without comparing each with each: banding, then the estimate.

Banding: Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", chapter 3. Nothing of it is stored: 100,000 signatures are
banded in less time than an index over bands would take to maintain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from include.indexing.near_duplicates import CHANCE, PERMUTATIONS, SIGNATURE_BYTES, similarities
from include.progress import Progress, Silent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

MIN_RECALL = 0.99  # of pairs exactly at the threshold; above it more
WINDOW = 12  # in a bucket each is compared with so many that follow: many copies link up in a chain
BLOCK_PAIRS = 200_000


@dataclass(frozen=True, slots=True)
class Cluster:
    """Positions of signatures that are linked by similarity, and how similar each is to the nearest compared one."""

    members: tuple[int, ...]
    similarities: tuple[float, ...]


def clusters(signatures: Sequence[bytes], threshold: float, progress: Progress | None = None) -> list[Cluster]:
    """Groups of two and more, largest first; empty signatures belong to none.

    :param threshold: estimated Jaccard similarity from which two are linked.
    """
    positions = np.array([i for i, s in enumerate(signatures) if s], dtype=np.int64)
    matrix = np.frombuffer(b"".join(signatures), dtype=np.uint8).reshape(-1, SIGNATURE_BYTES)
    parent, nearest = list(range(len(matrix))), np.zeros(len(matrix))
    rows = rows_in_a_band(threshold)
    shown = progress or Silent()
    shown.step("compare", PERMUTATIONS // rows)
    for keys in _bands(matrix, rows):
        for left, right in _candidates(keys):
            estimate = similarities(matrix[left], matrix[right])
            alike = estimate >= threshold
            left, right, estimate = left[alike], right[alike], estimate[alike]
            np.maximum.at(nearest, left, estimate)
            np.maximum.at(nearest, right, estimate)
            _unite(parent, left, right)
        shown.advance(1)
    groups: dict[int, list[int]] = {}
    for member in np.flatnonzero(nearest):
        groups.setdefault(_root(parent, int(member)), []).append(int(member))
    found = [Cluster(tuple(int(positions[m]) for m in g), tuple(float(nearest[m]) for m in g)) for g in groups.values()]
    return sorted(found, key=lambda c: (-len(c.members), c.members))


def rows_in_a_band(threshold: float) -> int:
    """Most values in a band with which pairs at the threshold still meet in one of the bands."""
    agree = threshold + (1 - threshold) * CHANCE
    wide = [r for r in range(1, 17) if 1 - (1 - agree**r) ** (PERMUTATIONS // r) >= MIN_RECALL]
    return max(wide, default=1)


def _bands(matrix: NDArray[np.uint8], rows: int) -> Iterator[NDArray[np.uint64]]:
    """One number a signature for each band: ``rows`` values of 4 bits."""
    for first in range(0, PERMUTATIONS - rows + 1, rows):
        keys = np.zeros(len(matrix), dtype=np.uint64)
        for value in range(first, first + rows):
            nibble = (matrix[:, value // 2] >> (0 if value % 2 else 4)) & 0xF
            keys = (keys << np.uint64(4)) | nibble.astype(np.uint64)
        yield keys


def _candidates(keys: NDArray[np.uint64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs with equal keys, at most WINDOW apart in the order of keys."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    for distance in range(1, min(WINDOW, len(keys) - 1) + 1):
        equal = np.flatnonzero(ordered[:-distance] == ordered[distance:])
        if not len(equal):
            return
        for start in range(0, len(equal), BLOCK_PAIRS):
            block = equal[start : start + BLOCK_PAIRS]
            yield order[block], order[block + distance]


def _unite(parent: list[int], left: NDArray[np.int64], right: NDArray[np.int64]) -> None:
    for one, other in zip(left.tolist(), right.tolist(), strict=True):
        a, b = _root(parent, one), _root(parent, other)
        parent[max(a, b)] = min(a, b)


def _root(parent: list[int], member: int) -> int:
    while parent[member] != member:
        parent[member] = parent[parent[member]]
        member = parent[member]
    return member

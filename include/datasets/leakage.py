"""Whether anything stands on two sides, or on one side and among the golden queries: pure, and apart from what splits.

Documents are compared pair by pair by their signatures, not by the clusters that the split rests on, so that a mistake there is
found here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from include.indexing.near_duplicates import SIGNATURE_BYTES, similarities

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from uuid import UUID

    from numpy.typing import NDArray

GOLDEN = "golden"
SHOWN = 20  # leaks that are named


@dataclass(frozen=True, slots=True)
class Side:
    """What stands on one side.

    :param questions: hash of a normalised question → a row that has it.
    :param passages: hash of a normalised passage → row.
    :param documents: uri → (content hash, signature); None for a document that the index does not hold.
    """

    questions: Mapping[UUID, int] = field(default_factory=dict)
    passages: Mapping[UUID, int] = field(default_factory=dict)
    documents: Mapping[str, tuple[UUID, bytes] | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Leak:
    """One thing on two sides.

    :param kind: document, near_duplicate, question or passage.
    :param what: the documents, or the numbers of the rows; never a text, since this is kept.
    """

    kind: str
    sides: tuple[str, str]
    what: tuple[str, ...]


def leaks(sides: Mapping[str, Side], golden: Side, threshold: float, *, golden_documents: bool = True) -> list[Leak]:
    """Everything that leaks, documents first.

    :param threshold: estimated Jaccard similarity from which two documents are near-duplicates.
    :param golden_documents: False: documents may be golden, questions may not.
    """
    found: list[Leak] = []
    pairs = [(a, sides[a], b, sides[b]) for a, b in combinations(sorted(sides), 2)]
    for name, side, other_name, other in [*pairs, *((name, sides[name], GOLDEN, golden) for name in sorted(sides))]:
        between = (name, other_name)
        if other_name != GOLDEN or golden_documents:
            found += [Leak("document", between, (uri,)) for uri in sorted(side.documents.keys() & other.documents.keys())]
            found += [Leak("near_duplicate", between, two) for two in similar(side.documents, other.documents, threshold)]
        found += _rows("question", between, side.questions, other.questions)
        found += _rows("passage", between, side.passages, other.passages)
    order = ("document", "near_duplicate", "question", "passage")
    return sorted(found, key=lambda leak: order.index(leak.kind))


def similar(
    left: Mapping[str, tuple[UUID, bytes] | None], right: Mapping[str, tuple[UUID, bytes] | None], threshold: float
) -> Iterator[tuple[str, str]]:
    """(a document of the one, a near-identical one of the other), each pair of different documents once, every one compared."""
    same: dict[UUID, list[str]] = {}
    for uri, held in right.items():
        if held is not None:
            same.setdefault(held[0], []).append(uri)
    names, matrix = _matrix(right)
    for uri, held in left.items():
        if held is None:
            continue
        found = dict.fromkeys(same.get(held[0], ()))
        if held[1] and names:
            row = np.frombuffer(held[1], dtype=np.uint8)
            alike = np.flatnonzero(similarities(np.broadcast_to(row, matrix.shape), matrix) >= threshold)
            found |= dict.fromkeys(names[position] for position in alike)
        yield from ((uri, other) for other in found if other != uri)


def describe(found: Sequence[Leak]) -> dict[str, Any]:
    """For JSON: counts by kind, and the first ones."""
    counts: dict[str, int] = {}
    for leak in found:
        counts[leak.kind] = counts.get(leak.kind, 0) + 1
    return {"found": len(found), "kinds": counts, "examples": [asdict(leak) for leak in found[:SHOWN]]}


def _rows(kind: str, sides: tuple[str, str], left: Mapping[Any, int], right: Mapping[Any, int]) -> list[Leak]:
    shared = sorted((left[key], right[key]) for key in left.keys() & right.keys())
    rows = [(f"row {one}", f"row {other}" if sides[1] != GOLDEN else "a golden query") for one, other in shared]
    return [Leak(kind, sides, row) for row in rows]


def _matrix(documents: Mapping[str, tuple[UUID, bytes] | None]) -> tuple[list[str], NDArray[np.uint8]]:
    signed = {uri: held[1] for uri, held in documents.items() if held is not None and held[1]}
    return list(signed), np.frombuffer(b"".join(signed.values()), dtype=np.uint8).reshape(-1, SIGNATURE_BYTES)

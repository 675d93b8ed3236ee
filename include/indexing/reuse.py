"""Which generations hold vectors that can be used again instead of embedding a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from include.embedding.embedder import CANARY_TEXTS, CANARY_TOLERANCE
from include.store import generations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.store.generations import Generation
    from include.store.pool import Connection


@dataclass(frozen=True, slots=True)
class Reusable:
    """What vectors a generation may take over.

    :param sources: generations whose vectors are of its embedder, itself included.
    :param canary: what the embedder made of the canary strings when those vectors were made; None: nobody kept it.
    """

    sources: list[Generation]
    canary: list[float] | None


def reusable(connection: Connection, target: Generation, *, rebuild: bool) -> Reusable:
    """Generations whose vectors are of the target's embedder, by its canary too; a rebuild trusts only what it made itself."""
    if rebuild:
        return Reusable([target], target.canary)
    mine = target.embedder, target.storage, target.dimension
    found = generations.generations(connection, target.collection_id)
    same = [g for g in found if (g.embedder, g.storage, g.dimension) == mine]
    canary = _reference(target, same)
    if canary is None:
        return Reusable(same, None)
    # One that kept no canary may be of another model: no vector of it stands beside those of a model that is known.
    return Reusable([g for g in same if g.id == target.id or _agrees(_canary_of(g, same), canary)], canary)


def _reference(target: Generation, same: Sequence[Generation]) -> list[float] | None:
    """What the vectors of a generation must agree with: its own canary; of one that is begun that of the index which serves."""
    own = _canary_of(target, same) if target.state not in ("building", "candidate") else target.canary
    if own is not None or target.state not in ("building", "candidate"):
        return own
    live = next((g for g in same if g.state == "live"), None)
    serving = _canary_of(live, same) if live else None
    return serving or next((g.canary for g in reversed(same) if g.canary and g.id != target.id), None)


def _canary_of(one: Generation, same: Sequence[Generation]) -> list[float] | None:
    """A generation's canary. Earlier releases kept none with one that was made of vectors of those before it alone."""
    if one.canary is not None or one.metrics.get("rebuild"):
        return one.canary
    return next((g.canary for g in reversed(same) if g.id < one.id and g.canary), None)


def _agrees(canary: Sequence[float] | None, reference: Sequence[float]) -> bool:
    return canary is not None and canary_drift(canary, reference) <= CANARY_TOLERANCE


def canary_drift(before: Sequence[float], now: Sequence[float]) -> float:
    """Largest cosine distance between two flattened sets of canary vectors; 2 when their shapes differ."""
    if len(before) != len(now):
        return 2.0
    left, right = (np.asarray(side, dtype=np.float32).reshape(len(CANARY_TEXTS), -1) for side in (before, now))
    return vector_drift(left, right)


def vector_drift(before: np.ndarray, now: np.ndarray) -> float:
    """Largest cosine distance between two sets of unit vectors, row by row."""
    return float(np.max(1.0 - np.sum(before * now, axis=1)))

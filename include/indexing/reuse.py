"""Which generations hold vectors that can be used again instead of embedding a text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from include.embedding.embedder import CANARY_TEXTS, CANARY_TOLERANCE
from include.store import generations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.store.generations import Generation
    from include.store.pool import Connection


def reusable(connection: Connection, target: Generation, *, rebuild: bool) -> list[Generation]:
    """Generations whose vectors are of the target's embedder, by its canary too; a rebuild trusts only what it made itself."""
    if rebuild:
        return [target]
    mine = target.embedder, target.storage, target.dimension
    found = generations.generations(connection, target.collection_id)
    same = [g for g in found if (g.embedder, g.storage, g.dimension) == mine]
    reference = target.canary or next((g.canary for g in reversed(same) if g.canary), None)
    return [g for g in same if not (g.canary and reference and canary_drift(g.canary, reference) > CANARY_TOLERANCE)]


def canary_drift(before: Sequence[float], now: Sequence[float]) -> float:
    """Largest cosine distance between two flattened sets of canary vectors; 2 when their shapes differ."""
    if len(before) != len(now):
        return 2.0
    left, right = (np.asarray(side, dtype=np.float32).reshape(len(CANARY_TEXTS), -1) for side in (before, now))
    return float(np.max(1.0 - np.sum(left * right, axis=1)))

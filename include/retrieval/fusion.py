"""Joins meaning and words into one score.

Cosine similarities and BM25 scores are put on one scale over the candidates of the query, then added with a weight (convex
combination: Bruch, Gai and Ingber 2023, "An Analysis of Fusion Functions for Hybrid Retrieval"). bench/retrieval.py compares
it with reciprocal rank fusion and others on five collections; docs/retrieval.md has the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from include.config import Retrieval

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEPTH = Retrieval().candidates


def fuse(dense: NDArray[np.float64], lexical: NDArray[np.float64], dense_weight: float, depth: int) -> NDArray[np.float64]:
    """Scores from 0 to 1 of a query's candidates, each array of shape (candidates,).

    Both are scores of all candidates, also of those that only one of the two ways found. Each is scaled from 0 at the last
    of its own ``depth`` best, or at its least possible value when it found fewer, to 1 at the best.

    :param depth: ``retrieval.candidates``; a chunk's score does not depend on how many more were looked at.
    """
    least = float(dense.min(initial=1.0))
    return dense_weight * _scaled(dense, least, depth) + (1 - dense_weight) * _scaled(lexical, 0.0, depth)


def _scaled(values: NDArray[np.float64], least: float, depth: int) -> NDArray[np.float64]:
    low = float(np.partition(values, -depth)[-depth]) if len(values) >= depth else least
    high = float(values.max(initial=low))
    if high > low:
        return np.clip((values - low) / (high - low), 0.0, None)
    return np.full_like(values, float(high > 0))  # none differs

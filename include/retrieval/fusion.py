"""Joins meaning and words into one score.

Cosine similarities and BM25 scores are put on one scale over the candidates of the query, then added with a weight (convex
combination: Bruch, Gai and Ingber 2023, "An Analysis of Fusion Functions for Hybrid Retrieval"). bench/retrieval.py compares
it with reciprocal rank fusion and others on five collections; docs/retrieval.md has the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def fuse(dense: NDArray[np.float64], lexical: NDArray[np.float64], dense_weight: float) -> NDArray[np.float64]:
    """Scores from 0 to 1 of a query's candidates, each array of shape (candidates,).

    Both are scores of all candidates, also of those that only the other of the two found. The least possible BM25 score is 0,
    that of cosine similarity is the lowest among the candidates.
    """
    return dense_weight * _scaled(dense, float(dense.min()) if len(dense) else 0.0) + (1 - dense_weight) * _scaled(lexical, 0.0)


def _scaled(values: NDArray[np.float64], low: float) -> NDArray[np.float64]:
    """From 0 at ``low`` to 1 at the highest; all 1 where none differs and something was found."""
    spread = float(values.max(initial=low)) - low
    return (values - low) / spread if spread > 0 else np.full_like(values, float(low != 0))

"""Joins meaning and words into one score.

Cosine similarities and BM25 scores are made comparable over the candidates of the query: each less its mean, by its standard
deviation (Montague and Aslam 2001, "Relevance score normalization for metasearch"), then added with a weight.
bench/retrieval.py compares the rule with min-max scaling, reciprocal ranks and others; docs/retrieval.md has the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from include.collection_file import Retrieval

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEPTH = Retrieval().candidates


def fuse(
    dense: NDArray[np.float64], lexical: NDArray[np.float64], dense_weight: float, depth: int = DEPTH
) -> NDArray[np.float64]:
    """Scores of a query's candidates, arrays of shape (candidates,): 1 for the best one, 0 for the least of the first ones.

    Both are scores of all candidates, also of those that only one of the two ways found.

    :param depth: ``retrieval.candidates``: the best so many of each way are the first ones, by which scores are scaled. So a
        chunk's score does not depend on how many more were looked at.
    """
    if not len(dense):
        return np.zeros(0)
    first = _best(dense, depth) | (_best(lexical, depth) & (lexical > 0))
    total = dense_weight * _standard(dense, first) + (1 - dense_weight) * _standard(lexical, first)
    low, high = float(total[first].min()), float(total[first].max())
    return (total - low) / (high - low) if high > low else np.ones_like(total)


def _best(values: NDArray[np.float64], depth: int) -> NDArray[np.bool_]:
    if len(values) <= depth:
        return np.ones(len(values), dtype=np.bool_)
    least: np.float64 = np.partition(values, -depth)[-depth]
    return np.greater_equal(values, least)


def _standard(values: NDArray[np.float64], first: NDArray[np.bool_]) -> NDArray[np.float64]:
    """In standard deviations from the mean of the first ones; 0 where these do not differ."""
    spread = float(values[first].std())
    return (values - values[first].mean()) / spread if spread > 0 else np.zeros_like(values)

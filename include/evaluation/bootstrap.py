"""How sure a mean difference is, from the queries alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

RESAMPLES = 10_000
CONFIDENCE = 0.95
BLOCK = 2_000_000  # draws held in memory at once, 16 MB


def paired_interval(differences: Sequence[float], *, seed: int = 0) -> tuple[float, float] | None:
    """Percentile bootstrap interval of the mean of paired differences (Efron and Tibshirani 1993, chapter 13).

    :param seed: the same differences and seed give the same interval.
    :return: (low, high); None for fewer than two, which say nothing of their spread.
    """
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2:
        return None
    draw = np.random.default_rng(seed)
    rows = max(1, BLOCK // len(values))
    means = [
        values[draw.integers(0, len(values), size=(min(rows, RESAMPLES - first), len(values)))].mean(axis=1)
        for first in range(0, RESAMPLES, rows)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)

"""How sure a mean is, from the queries alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

RESAMPLES = 10_000
CONFIDENCE = 0.95
BLOCK = 2_000_000  # draws held in memory at once, 16 MB


def paired_interval(
    differences: Sequence[float], *, seed: int = 0, confidence: float = CONFIDENCE
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of the mean of paired differences (Efron and Tibshirani 1993, chapter 13).

    :param seed: the same differences and seed give the same interval.
    :return: (low, high); None for fewer than two, which say nothing of their spread.
    """
    return intervals([differences], seed=seed, confidence=confidence)[0]


def intervals(
    columns: Sequence[Sequence[float]], *, seed: int = 0, confidence: float = CONFIDENCE
) -> list[tuple[float, float] | None]:
    """As :func:`paired_interval`, of several measures of the same queries: each resample takes the same queries for all.

    :param columns: one sequence a measure, all of one length.
    """
    values = [np.asarray(column, dtype=np.float64) for column in columns]
    size = len(values[0]) if values else 0
    if size < 2:
        return [None] * len(values)
    draw = np.random.default_rng(seed)
    rows = max(1, BLOCK // size)
    means: list[list[np.ndarray]] = [[] for _ in values]
    for first in range(0, RESAMPLES, rows):
        chosen = draw.integers(0, size, size=(min(rows, RESAMPLES - first), size))
        for column, kept in zip(values, means, strict=True):
            kept.append(column[chosen].mean(axis=1))
    bounds = [(1 - confidence) / 2, (1 + confidence) / 2]
    found = [np.quantile(np.concatenate(kept), bounds) for kept in means]
    return [(float(low), float(high)) for low, high in found]


def sign_flip_p(differences: Sequence[float], *, seed: int = 0) -> float:
    """Two-sided p-value of Fisher's randomisation test: were the two alike, each difference might as well have the other sign.

    Recommended for comparing retrieval systems by Smucker, Allan and Carterette (CIKM 2007). All signs are tried when they
    are few, else RESAMPLES random ones, counting the observed one (Phipson and Smyth 2010), so that p is never 0.
    """
    values = np.asarray(differences, dtype=np.float64)
    values = values[values != 0]
    if not len(values):
        return 1.0
    observed = abs(values.sum()) - 1e-9  # sums of the same numbers in another order differ in their last digits
    if 2 ** len(values) <= RESAMPLES:
        signs = 1.0 - 2.0 * ((np.arange(2 ** len(values))[:, None] >> np.arange(len(values))) & 1)
        return float((np.abs(signs @ values) >= observed).mean())
    draw = np.random.default_rng(seed)
    rows = max(1, BLOCK // len(values))
    extreme = 0
    for first in range(0, RESAMPLES, rows):
        signs = 1.0 - 2.0 * draw.integers(0, 2, size=(min(rows, RESAMPLES - first), len(values)), dtype=np.int8)
        extreme += int((np.abs(signs @ values) >= observed).sum())
    return (1 + extreme) / (1 + RESAMPLES)

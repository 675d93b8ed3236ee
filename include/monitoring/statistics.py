"""Values with intervals, and how much they differ from a reference: shares, means, and two samples of vectors."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

PERMUTATIONS = 999
FOLDS = 5
SAME = 1e-5  # of the squared length: a squared distance below it is rounding


@dataclass(frozen=True, slots=True)
class Interval:
    """A value between two bounds."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """For JSON: to six places."""
        return {key: round(value, 6) for key, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Share:
    """``count`` of ``total``."""

    count: int
    total: int

    @property
    def value(self) -> float:
        """0 to 1; 0 of nothing."""
        return self.count / self.total if self.total else 0.0

    def interval(self, confidence: float) -> Interval:
        """Wilson score interval (Wilson 1927); of nothing it is all there is."""
        if not self.total:
            return Interval(0.0, 0.0, 1.0)
        from scipy.stats import binomtest

        bounds = binomtest(self.count, self.total).proportion_ci(confidence, method="wilson")
        return Interval(self.value, float(bounds.low), float(bounds.high))

    def less(self, other: Share, confidence: float) -> Interval:
        """How much larger it is than another share (Newcombe 1998, method 10: from two Wilson intervals)."""
        one, two = self.interval(confidence), other.interval(confidence)
        change = one.value - two.value
        return Interval(
            change,
            change - math.hypot(one.value - one.low, two.high - two.value),
            change + math.hypot(one.high - one.value, two.value - two.low),
        )


@dataclass(frozen=True, slots=True)
class Mean:
    """Mean and standard deviation of ``total`` values."""

    value: float
    deviation: float
    total: int

    @property
    def error(self) -> float:
        """Standard error."""
        return self.deviation / math.sqrt(self.total) if self.total else math.inf

    def interval(self, confidence: float) -> Interval:
        """By Student's t."""
        return _around(self.value, self.error, max(1, self.total - 1), confidence)

    def less(self, other: Mean, confidence: float) -> Interval:
        """How much larger it is than another mean (Welch 1947)."""
        a, b = self.error**2, other.error**2
        error = math.sqrt(a + b)
        degrees = (a + b) ** 2 / (a**2 / max(1, self.total - 1) + b**2 / max(1, other.total - 1)) if error else 1.0
        return _around(self.value - other.value, error, degrees, confidence)


def pooled(parts: list[Mapping[str, Any]]) -> Mean:
    """One mean of several, each ``{value, deviation, total}``."""
    total = sum(int(part["total"]) for part in parts)
    if not total:
        return Mean(0.0, 0.0, 0)
    mean = math.fsum(part["value"] * part["total"] for part in parts) / total
    squares = math.fsum(part["total"] * (part["deviation"] ** 2 + (part["value"] - mean) ** 2) for part in parts)
    return Mean(mean, math.sqrt(squares / total), total)


def _around(value: float, error: float, degrees: float, confidence: float) -> Interval:
    from scipy.stats import t

    reach = float(t.ppf((1 + confidence) / 2, degrees)) * error if error else 0.0
    return Interval(value, value - reach, value + reach)


def domain_auc(window: NDArray[np.float32], reference: NDArray[np.float32], confidence: float, *, seed: int = 0) -> Interval:
    """How well a classifier tells two samples apart (Rabanser, Günnemann and Lipton 2019, "Failing loudly").

    Ridge regression on the label, which is as good here as logistic regression and a hundred times faster, scored on the folds
    that it has not seen; 0.5: not at all. Interval by DeLong (1988).

    :param window: shape (n, dimension); ``reference`` (m, dimension).
    """
    import numpy as np
    from sklearn.linear_model import RidgeClassifier
    from sklearn.model_selection import StratifiedKFold

    x = np.concatenate([window, reference])
    y = np.concatenate([np.ones(len(window)), np.zeros(len(reference))])
    auc, variance = [], []
    for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(x, y):
        model = RidgeClassifier(alpha=1.0, class_weight="balanced", solver="cholesky").fit(x[train], y[train])
        scores = model.decision_function(x[test])
        one = _delong(scores[y[test] == 1], scores[y[test] == 0])
        auc.append(one[0])
        variance.append(one[1])
    # Scores of different models have different scales: each fold is judged by itself, and the folds are averaged.
    from scipy.stats import norm

    mean, error = float(np.mean(auc)), math.sqrt(sum(variance)) / FOLDS
    reach = float(norm.ppf((1 + confidence) / 2)) * error
    return Interval(mean, mean - reach, min(1.0, mean + reach))


def _delong(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> tuple[float, float]:
    """ROC AUC and its variance."""
    import numpy as np

    wins = (positive[:, None] > negative[None, :]) + 0.5 * (positive[:, None] == negative[None, :])
    of_positive, of_negative = wins.mean(axis=1), wins.mean(axis=0)
    spread = [float(np.var(part, ddof=1)) / len(part) if len(part) > 1 else 0.25 for part in (of_positive, of_negative)]
    return float(wins.mean()), sum(spread)


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """How far apart two samples are.

    :param value: unbiased MMD².
    :param reach: what chance alone stays below, at the level asked for.
    :param p: how often chance alone makes it as large.
    """

    value: float
    reach: float
    p: float


def discrepancy(
    window: NDArray[np.float32], reference: NDArray[np.float32], level: float, *, seed: int = 0
) -> Discrepancy | None:
    """Maximum mean discrepancy with a permutation test (Gretton et al. 2012, "A kernel two-sample test").

    RBF kernel, its width the median distance of vectors that differ: where most questions are the same one, as a health
    probe's, the median of all distances is 0. All permutations are done at once, as one product of matrices.

    :param level: of the test, one-sided.
    :return: None: all vectors are the same, so that there is no width.
    """
    import numpy as np

    n, m = len(window), len(reference)
    x = np.concatenate([window, reference]).astype(np.float32)
    norms = (x * x).sum(axis=1)
    distances = np.maximum(norms[:, None] + norms[None, :] - 2 * (x @ x.T), 0)
    some = distances[:: max(1, len(x) // 500)]
    apart = some[some > SAME * float(norms.max())]
    if not apart.size:
        return None
    kernel = np.exp(distances / -float(np.median(apart)))
    np.fill_diagonal(kernel, 0)
    draw = np.random.default_rng(seed)
    member = np.zeros((n + m, PERMUTATIONS + 1), dtype=np.float32)
    member[:n, 0] = 1
    for column in range(1, PERMUTATIONS + 1):
        member[draw.permutation(n + m)[:n], column] = 1
    product = kernel @ member
    inside = np.einsum("ij,ij->j", member, product)
    across = product.sum(axis=0) - inside
    outside = kernel.sum() - inside - 2 * across
    values = inside / (n * (n - 1)) + outside / (m * (m - 1)) - 2 * across / (n * m)
    chance = values[1:]
    p = (1 + int((chance >= values[0]).sum())) / (1 + PERMUTATIONS)
    return Discrepancy(float(values[0]), float(np.quantile(chance, 1 - level)), p)

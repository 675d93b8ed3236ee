"""How sure a single test must be, so that all signals together raise no more false alarms than the collection's file allows."""

from __future__ import annotations

from functools import lru_cache

HISTORY, NEEDED = 5, 2  # a breach: NEEDED of the last HISTORY windows are beyond, and the latest is one of them
WEEK_HOURS = 168.0


def level(budget: float, signals: int, window_hours: float, sample: int, reference: int) -> float:
    """One-sided level of one test of one window.

    A share of ``budget`` falls to each signal and window of a week (the union bound: signals may depend on each other as they
    like). A breach needs several windows beyond; all are compared with the same reference, whose luck they share, as normal
    deviates with correlation n / (n + m).

    :param budget: breaches a week that chance alone may make.
    :param signals: compared in this window.
    :param sample: n, of the window; ``reference``: m.
    """
    each = budget / (max(1, signals) * max(1.0, WEEK_HOURS / window_hours))
    shared = sample / (sample + reference) if sample + reference else 0.5
    return _level(each, round(shared, 2))


def breach_chance(test: float, shared: float) -> float:
    """How often a window establishes or keeps a breach by chance, when each test alone is wrong with probability ``test``.

    :param shared: correlation of the tests of two windows.
    """
    import numpy as np
    from scipy.stats import norm

    common = np.linspace(-8, 8, 801)
    one = norm.sf((norm.isf(test) - np.sqrt(shared) * common) / np.sqrt(max(1e-9, 1 - shared)))
    both = one * (1 - (1 - one) ** (HISTORY - 1))
    return float(np.trapezoid(both * norm.pdf(common), common))


@lru_cache(maxsize=256)
def _level(each: float, shared: float) -> float:
    low, high = 1e-6, 0.25
    for _ in range(40):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if breach_chance(middle, shared) > each else (middle, high)
    return low

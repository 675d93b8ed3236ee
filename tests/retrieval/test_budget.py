"""How many candidates are read, by what is left of the latency budget."""

from __future__ import annotations

import random

import pytest

from include.retrieval.budget import PROBE, SPREAD, Allowance, allowance

PACE = 0.010 / SPREAD  # so that a candidate is given 10 ms


@pytest.mark.parametrize(
    ("spent", "pace", "wanted", "at_least", "candidates"),
    [
        (0.0, PACE, 50, 0, 50),  # all fit: 500 ms for 50
        (0.1, PACE, 50, 0, 40),
        (0.4799, PACE, 50, 0, 2),
        (0.485, PACE, 50, 0, 0),  # one alone cannot change places
        (0.5, PACE, 50, 0, 0),
        (8.0, PACE, 50, 0, 0),
        (0.1, PACE, 20, 0, 20),  # no more than there are
        (0.1, PACE, 1, 0, 0),
        (0.0, PACE, 0, 0, 0),
        (0.1, None, 50, 0, PROBE),  # not measured yet: a few
        (0.1, None, 3, 0, 3),
        (0.5, None, 50, 0, 0),
        (8.0, PACE, 50, 10, 10),  # demanded: the budget does not count
        (0.1, PACE, 50, 10, 40),
        (8.0, PACE, 6, 10, 6),
        (8.0, PACE, 1, 10, 0),
    ],
)
def test_candidates(spent: float, pace: float | None, wanted: int, at_least: int, candidates: int) -> None:
    allowed = allowance(500, spent, pace, wanted=wanted, at_least=at_least)
    assert allowed.candidates == candidates
    assert bool(allowed.reason) == (candidates < max(wanted, 2))


def test_what_was_read_already_counts() -> None:
    assert allowance(500, 0.1, PACE, wanted=50, read=4).candidates == 44
    assert allowance(500, 0.6, PACE, wanted=50, read=4).candidates == 4
    assert allowance(500, 0.1, PACE, wanted=30, read=4) == Allowance(30)


def test_reasons_name_the_figures() -> None:
    reason = allowance(500, 0.42, 0.1, wanted=50).reason
    assert reason == "latency budget: 420 of 500 ms were spent, a candidate takes 100.0 ms"
    assert allowance(500, 0.1, PACE, wanted=1).reason == "1 of at least 2 candidates to compare"


def test_95_of_100_searches_stay_within_the_budget() -> None:
    """Searches whose pace scatters as far as SPREAD says: its 95th percentile is that much above its mean."""
    rng = random.Random(1)
    paces = [0.012 * rng.uniform(1 - (SPREAD - 1) / 0.9, 1 + (SPREAD - 1) / 0.9) for _ in range(2000)]
    mean = sum(paces) / len(paces)
    first = [rng.uniform(0.005, 0.2) for _ in paces]
    read = [allowance(500, spent, mean, wanted=50).candidates for spent in first]
    taken = sorted(spent + n * pace for spent, n, pace in zip(first, read, paces, strict=True))
    assert taken[int(0.95 * len(taken))] <= 0.5
    assert taken[int(0.95 * len(taken))] > 0.4  # and the time is used

"""What may be said of two configurations: pure, by cases and by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from include.evaluation.asking import Asked
from include.evaluation.bootstrap import intervals, paired_interval, sign_flip_p
from include.evaluation.comparison import Rule, compare, holm, verdict
from include.evaluation.report import comparison, control

FEW = Rule(minimum=20)


def _noise(size: int, mean: float, seed: int = 0, spread: float = 0.3) -> list[float]:
    return np.random.default_rng(seed).normal(mean, spread, size).tolist()


@pytest.mark.parametrize(
    ("differences", "rule", "outcome"),
    [
        (_noise(300, 0.1), FEW, "better"),
        (_noise(300, -0.1), FEW, "worse"),
        (_noise(300, 0.0), FEW, "no difference"),
        (_noise(19, 0.5), FEW, "too few"),
        (_noise(20, 0.5), FEW, "better"),
        ([], FEW, "too few"),
        ([1.0], Rule(minimum=1), "too few"),
        ([0.0] * 300, FEW, "no difference"),
        ([0.0] * 19, FEW, "too few"),
        ([1.0] * 5 + [0.0] * 20, FEW, "too few"),  # five of a kind: chance makes that in 1 of 16
        ([1.0] * 6 + [0.0] * 20, FEW, "better"),
        ([1.0] * 3 + [0.0] * 997, FEW, "no difference"),  # alike whatever more questions would say
        (_noise(1500, 0.02, spread=0.1), FEW, "better"),
        (_noise(1500, 0.02, spread=0.1), Rule(effect=0.05), "no difference"),
        (_noise(1500, -0.02, spread=0.1), Rule(effect=0.05), "no difference"),
        (_noise(60, 0.1), Rule(confidence=0.9), "better"),
        (_noise(60, 0.1), Rule(confidence=0.9999), "no difference"),
    ],
)
def test_the_rule(differences: list[float], rule: Rule, outcome: str) -> None:
    found = verdict(differences, rule)
    assert (found.outcome, found.promotes) == (outcome, outcome == "better")
    assert found.queries == len(differences)
    assert {"better": "surely better", "worse": "surely worse"}.get(outcome, "") in found.reason
    assert found == verdict(differences, rule), "the same scores give the same verdict"
    opposite = verdict([-d for d in differences], rule)
    assert opposite.outcome == {"better": "worse", "worse": "better"}.get(outcome, outcome)


def test_one_question_that_changes_everything_is_not_enough() -> None:
    """One outlier carries the mean: the interval may leave nothing, the signs tell."""
    found = verdict([0.01 * (-1) ** n for n in range(40)] + [1.0], FEW)
    assert found.mean > 0.02
    assert found.outcome == "no difference"


def test_a_difference_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="no number"):
        verdict([float("nan")] * 30)


def test_configurations_asked_different_things_are_not_compared() -> None:
    with pytest.raises(ValueError, match="measures differ"):
        compare({"a": [1.0]}, {"b": [1.0]})
    with pytest.raises(ValueError, match="zip"):
        compare({"a": [1.0]}, {"a": [1.0, 2.0]})


def test_holm_by_hand() -> None:
    """Holm 1979: smallest times 3, next times 2, last times 1, never falling."""
    assert holm({"a": 0.04, "b": 0.01, "c": 0.03}) == pytest.approx({"a": 0.06, "b": 0.03, "c": 0.06})
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_looking_at_many_measures_costs_certainty() -> None:
    barely = _noise(40, 0.1)
    assert verdict(barely, FEW).outcome == "better"
    nothing = [0.0] * 40
    old = {str(n): nothing for n in range(5)}
    new = {"0": barely, **{str(n): _noise(40, 0.0, seed=n) for n in range(1, 5)}}
    assert compare(old, new, FEW)["0"].p == pytest.approx(5 * verdict(barely, FEW).p, rel=1e-6)
    assert compare(old, new, FEW)["0"].outcome == "no difference"


def test_false_alarms_are_as_rare_as_promised() -> None:
    """Of 200 pairs that are alike at most 5 % are called different; skewed as scores of questions are."""
    draw = np.random.default_rng(3)
    alarms = 0
    for _ in range(200):
        changed = draw.random(40) < 0.3
        differences = np.where(changed, draw.choice([-1.0, 1.0], 40) * draw.exponential(0.3, 40), 0.0)
        alarms += verdict(differences.tolist(), FEW).outcome in ("better", "worse")
    assert alarms <= 18, "5 % of 200 is 10; 19 has a chance of 1 in 200"
    assert alarms >= 1, "a rule that never speaks would pass too"


def test_sign_flips_are_exact_when_few() -> None:
    assert sign_flip_p([1.0] * 5) == 2 / 32
    assert sign_flip_p([0.0] * 9) == 1.0
    assert sign_flip_p([1.0, -1.0]) == 1.0
    assert sign_flip_p([0.5] * 13 + [0.0] * 50) == 2 / 2**13
    assert sign_flip_p([0.5] * 14) == pytest.approx(2 / 2**14, abs=5e-4)


def test_intervals_of_many_measures_are_those_of_each() -> None:
    columns = [_noise(50, 0.1), _noise(50, 0.5, seed=1)]
    assert intervals(columns) == [paired_interval(column) for column in columns]
    assert intervals([[1.0]]) == [None]
    assert intervals([]) == []


def _asked(values: list[float]) -> list[Asked]:
    names = ("ndcg@10", "recall@10", "mrr@10", "map@10", "precision@10")
    return [Asked(dict.fromkeys(names, value), 1.0) for value in values]


def test_the_report_of_a_comparison() -> None:
    old = _asked([0.5] * 40)
    new = _asked([0.5 + d for d in np.clip(_noise(30, 0.2), -0.5, 0.5)] + [0.1] * 10)
    slices = {"team": {"good": list(range(30)), "bad": list(range(30, 40))}}
    found = comparison(old, new, slices, 10, Rule(minimum=10))
    assert found["slices"]["team"]["good"]["outcome"] == "better"
    assert found["slices"]["team"]["bad"]["outcome"] == "worse"
    assert sum(found["histogram"]["counts"]) == 40
    assert found["histogram"]["better"] + found["histogram"]["worse"] + found["histogram"]["same"] == 40
    assert found["verdict"] == found["measures"]["ndcg@10"]["outcome"]


def test_the_control_tells_when_search_is_not_repeatable() -> None:
    one = _asked(_noise(60, 0.5))
    assert control(one, one, 10)["passed"]
    assert control(one, one, 10)["verdict"] == "no difference"
    drifted = _asked([s.scores["ndcg@10"] + 0.2 for s in one])
    assert not control(one, drifted, 10)["passed"]
    assert "not repeatable" in control(one, drifted, 10)["reason"]

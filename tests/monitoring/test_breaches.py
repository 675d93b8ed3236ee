"""When a signal is in breach: hysteresis, cool-down, the latest window, and windows that say nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from include.monitoring.breach import Breach, Changes, Signal, State, changes, in_breach, judged
from include.monitoring.budget import breach_chance, level
from include.monitoring.calibrate import calibrated, unaccepted
from include.monitoring.statistics import Mean, Share, discrepancy, domain_auc, pooled
from include.monitoring.windows import ORIGIN, Window, before, complete

DAY = timedelta(days=1)
STATES: dict[str, State] = {".": "within", "!": "beyond", "?": "too_few"}


def rows(states: str, of: str = "a", first: int = 0, near: float = 1.0) -> list[Signal]:
    """A window a day: within, beyond or too few."""
    return [
        Signal(
            "thumbs_down", ORIGIN + (first + n) * DAY, ORIGIN + (first + n + 1) * DAY, 0.5, 0.4, 0.6, 100, 0.1, near, None,
            STATES[state], {"of": of, "value": 0.1}, id=first + n + 1,
        )
        for n, state in enumerate(states)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ("", False), ("!", False), ("!!", True), ("!..", False), ("!...!", True), ("!....!", False), ("!.!.", False),
        ("!?!", True), ("!!?", True), ("....!!", True), ("!????!", True),
    ],
)  # fmt: skip
def test_two_of_five_and_the_latest(states: str, expected: bool) -> None:
    assert in_breach(rows(states)) is expected


def test_windows_of_another_reference_do_not_count() -> None:
    assert not in_breach([*rows("!!!"), *rows("!", of="b", first=3)])
    assert in_breach([*rows("!!!"), *rows("!!", of="b", first=3)])


def judge(states: str, known: list[Breach], cool_down: float = 3) -> Changes:
    at = ORIGIN + len(states) * DAY
    return changes({"thumbs_down": rows(states)}, known, at=at, cool_down=timedelta(days=cool_down))


def test_a_breach_opens_once_and_ends_with_the_first_window_within() -> None:
    (opened,) = judge("..!!", []).opened
    assert (opened.opened_at, opened.since, opened.signals) == (ORIGIN + 4 * DAY, ORIGIN + 2 * DAY, (3, 4))
    assert "usually 0.1" in opened.reason
    assert "beyond in 2 of the last 4 windows" in opened.reason
    assert judge("..!!!", [opened]) == Changes()
    assert judge("..!!?", [opened]) == Changes()
    assert judge("..!!.", [opened]).ended == (opened,)


@pytest.mark.parametrize(("states", "by"), [("..!!", 3), ("!!", 0), ("!.!", 0), ("?!!", 1), (".?!!", 3)])
def test_when_a_breach_had_begun_for_certain(states: str, by: int) -> None:
    """At the end of its first window when the one before was within, for then it began in it; else nobody knows."""
    (opened,) = judge(states, []).opened
    assert opened.by == ORIGIN + by * DAY


def test_cool_down() -> None:
    ended = Breach("thumbs_down", ORIGIN + 2 * DAY, ORIGIN + 3 * DAY)
    assert judge("!!.!!", [ended], cool_down=3).opened == ()
    assert len(judge("!!.!!", [ended], cool_down=1).opened) == 1


def test_the_interval_is_judged_and_not_the_point() -> None:
    assert judged(0.09, 100, 50, 0.1) == "within"
    assert judged(0.11, 100, 50, 0.1) == "beyond"
    assert judged(0.11, 49, 50, 0.1) == "too_few"
    assert judged(0.11, 100, 50, None) == "within"


def test_windows_are_joined_until_enough_was_asked() -> None:
    asked = {0: 100, 1: 30, 2: 80, 3: 10}
    found = list(complete(ORIGIN, ORIGIN + 4 * DAY + timedelta(hours=5), 24, minimum=100, asked=asked))
    assert found == [Window(ORIGIN, ORIGIN + DAY), Window(ORIGIN + DAY, ORIGIN + 3 * DAY)]
    late = list(complete(ORIGIN + 4 * DAY, ORIGIN + 100 * DAY, 24, minimum=100, asked={70: 5}))
    assert late == [Window(ORIGIN + 64 * DAY, ORIGIN + 94 * DAY)]  # nothing was asked before, and too little since
    assert before(datetime(2026, 11, 28, 13, 5, tzinfo=UTC), 24) == datetime(2026, 11, 28, tzinfo=UTC)


def test_the_budget_of_false_alarms_is_kept() -> None:
    """Simulated: windows that share a reference, as normal deviates."""
    test = level(0.05, 6, 24, 500, 1000)
    draw = np.random.default_rng(0)
    shared = np.sqrt(1 / 3) * draw.standard_normal((200_000, 1)) + np.sqrt(2 / 3) * draw.standard_normal((200_000, 5))
    from scipy.stats import norm

    beyond = shared > norm.isf(test)
    chance = float((beyond[:, -1] & beyond[:, :-1].any(axis=1)).mean())
    assert chance == pytest.approx(0.05 / 42, rel=0.15)
    assert breach_chance(test, 1 / 3) == pytest.approx(chance, rel=0.15)
    assert level(0.05, 6, 24, 500, 100_000) > test > level(0.01, 6, 24, 500, 1000)


def test_differences_of_shares_and_means() -> None:
    change = Share(56, 70).less(Share(48, 80), 0.95)
    assert (round(change.low, 4), round(change.high, 4)) == (0.0524, 0.3339)  # Newcombe 1998, table II (a), method 10
    parts = [{"value": 1.0, "deviation": 0.0, "total": 2}, {"value": 4.0, "deviation": 1.0, "total": 4}]
    assert pooled(parts) == Mean(3.0, pytest.approx(np.std([1, 1, 3, 5, 3, 5])), 6)
    same = Mean(0.5, 0.1, 100).less(Mean(0.5, 0.1, 100), 0.95)
    assert same.low < 0 < same.high


def test_two_samples_of_vectors() -> None:
    draw = np.random.default_rng(1)
    usual, same = (draw.standard_normal((200, 16)).astype(np.float32) for _ in range(2))
    other = same + 0.5
    assert domain_auc(same, usual, 0.95).low < 0.5 < domain_auc(other, usual, 0.95).low
    apart, near = discrepancy(other, usual, 0.01), discrepancy(same, usual, 0.01)
    assert apart is not None
    assert near is not None
    assert (apart.p, apart.value > apart.reach) == (0.001, True)
    assert near.p > 0.05
    assert near.value < near.reach


def test_questions_that_are_mostly_the_same() -> None:
    """A health probe: three of four vectors are one, so that the median distance of all is nothing."""
    draw = np.random.default_rng(2)
    usual, window = (draw.standard_normal((200, 16)).astype(np.float32) for _ in range(2))
    usual /= np.linalg.norm(usual, axis=1, keepdims=True)
    window /= np.linalg.norm(window, axis=1, keepdims=True)
    window[:150] = usual[:150] = usual[0]
    found = discrepancy(window, usual, 0.01)
    assert found is not None
    assert found.p > 0.05
    assert found.value < found.reach
    assert discrepancy(window[:150], usual[:150], 0.01) is None


def test_a_number_without_chance_is_a_breach_at_once() -> None:
    row = replace(rows("!")[0], name="failed_trainings", reference={})
    assert in_breach([row])
    assert not in_breach([row, replace(row, state="within")])


def test_calibration_replays_the_history() -> None:
    usual = [*rows("!", near=0.3), *rows("!", first=1, near=0.2), *rows("......!", first=2, near=0.05)]
    (found,) = calibrated({"thumbs_down": usual}, [], {})
    assert (found.threshold, found.breaches, found.windows) == (0.2, 8, 9)
    real = Breach("thumbs_down", ORIGIN + 2 * DAY, ORIGIN + 4 * DAY, since=ORIGIN, id=1)
    assert calibrated({"thumbs_down": usual}, [real], {"thumbs_down": 0.02})[0].threshold == 0.05


def test_what_was_a_breach_is_not_usual_unless_a_person_said_so() -> None:
    """Whether anything was done about it or not: drift alone is told, and would else raise its own threshold."""
    over = Breach("query_drift", ORIGIN + 2 * DAY, ORIGIN + 4 * DAY, id=1)
    still = Breach("query_drift", ORIGIN + 8 * DAY, None, id=2)
    assert unaccepted([over, still], []) == [over, still]
    assert unaccepted([over, still], [(ORIGIN + 3 * DAY, ORIGIN + 7 * DAY)]) == [still]
    assert unaccepted([over, still], [(ORIGIN + 5 * DAY, ORIGIN + 9 * DAY)]) == [over]
    assert unaccepted([over, still], [(ORIGIN - 9 * DAY, ORIGIN)]) == [over, still]

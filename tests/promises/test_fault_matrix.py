"""Promise 3, point by point: kill -9 at every step of a run, then run again, or take the source back and run again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.promises.fault_cases import KILLED
from tests.promises.fault_points import POINTS, SCENARIOS, Scenario

if TYPE_CHECKING:
    from tests.promises.fault_cases import Case, Cases
    from tests.promises.faults import Fault


def test_there_are_enough_points() -> None:
    assert len(POINTS) == len(set(POINTS)) >= 60  # a third of them in each `make test`


EVERY_THIRD = [
    pytest.param(name, fault, id=f"{name} {fault}", marks=[pytest.mark.thorough] if number % 3 else [])
    for number, (name, fault) in enumerate(POINTS)
]


@pytest.mark.parametrize(("name", "fault"), EVERY_THIRD)
def test_kill_nine(cases: Cases, name: str, fault: Fault) -> None:
    scenario = SCENARIOS[name]
    with cases.case(scenario.kind, live=scenario.live) as killed:
        killed.source("new", scenario.tokens)
        job = killed.job(fault=fault, mode=scenario.mode)
        assert cases.children.run(job) == [KILLED], Path(job.log).read_text()
        assert Path(job.marker).read_text() == str(fault)
        taken_back = killed.copy()
        try:
            assert killed.state().live in _allowed(cases, scenario)
            _run_again(cases, scenario, killed, taken_back)
        finally:
            taken_back.drop()


def _run_again(cases: Cases, scenario: Scenario, killed: Case, taken_back: Case) -> None:
    taken_back.source("old")
    jobs = killed.job(mode=scenario.mode), taken_back.job()
    for case, job, code in zip((killed, taken_back), jobs, cases.children.run(*jobs), strict=True):
        case.check(job, code)
    killed.assert_right(cases.rebuilt(scenario.kind, "new", scenario.tokens))
    if scenario.mode == "rebuild":  # what was begun waits for the next rebuild, which goes on with it
        taken_back.run(mode="rebuild")
    taken_back.assert_right(cases.rebuilt(scenario.kind, "old"))


def _allowed(cases: Cases, scenario: Scenario) -> list[object]:
    """All or nothing: the old state or the new; while a new generation is built, also the new state in the old one."""
    before = [cases.rebuilt(scenario.kind, "old").live] if scenario.live else [([], [])]
    after = {60, scenario.tokens} if scenario.live else {scenario.tokens}
    return [*before, *(cases.rebuilt(scenario.kind, "new", tokens).live for tokens in after)]

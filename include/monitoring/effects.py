"""Whether a promotion or a rollback helped: the signals before it and after. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from include.monitoring.catalogue import SIGNALS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from include.monitoring.breach import Signal
    from include.store.deployments import Deployment

SPAN = timedelta(days=7)  # before and after that is looked at
GROUPS = ("coverage", "retrieval", "answers", "feedback", "operation")

Verdict = Literal["better", "worse", "no difference", "too few"]


@dataclass(frozen=True, slots=True)
class Change:
    """One signal.

    :param before: mean of the windows before, weighted by their samples; ``after`` of those after; None: there are none.
    :param verdict: ``better`` or ``worse`` when the intervals of all windows before and after lie apart.
    """

    signal: str
    before: float | None
    after: float | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Effect:
    """What changed around one deployment; signals without a value on either side are left out."""

    deployment: Deployment
    changes: tuple[Change, ...]


def effects(history: Mapping[str, Sequence[Signal]], made: Sequence[Deployment], end: datetime) -> list[Effect]:
    """The effect of each deployment, up to the next one or ``end``.

    :param history: measurements by signal, oldest first.
    :param made: oldest first.
    """
    times = [one.created_at for one in made]
    found = []
    for number, one in enumerate(made):
        since = max([one.created_at - SPAN, *times[number - 1 : number]])
        until = min([one.created_at + SPAN, end, *times[number + 1 : number + 2]])
        changes = [
            _change(name, history[name], since, one.created_at, until)
            for name, kind in SIGNALS.items()
            if kind.group in GROUPS and kind.minimum != 0 and name in history
        ]
        found.append(Effect(one, tuple(c for c in changes if c.before is not None or c.after is not None)))
    return found


def _change(name: str, rows: Sequence[Signal], since: datetime, at: datetime, until: datetime) -> Change:
    """A window counts on the side on which all of it lies."""
    told = [row for row in rows if row.value is not None and row.state != "too_few"]
    before = [row for row in told if row.window_start >= since and row.window_end <= at]
    after = [row for row in told if row.window_start >= at and row.window_end <= until]
    return Change(name, _mean(before), _mean(after), _verdict(before, after, SIGNALS[name].worse))


def _verdict(before: Sequence[Signal], after: Sequence[Signal], worse: int) -> Verdict:
    sides = [(min(one.low for one in side if one.low is not None), max(one.high for one in side if one.high is not None))
             for side in (before, after)
             if any(one.low is not None for one in side) and any(one.high is not None for one in side)]  # fmt: skip
    if len(sides) < 2:
        return "too few"
    (low, high), (later_low, later_high) = sides
    if later_low > high:
        return "worse" if worse > 0 else "better"
    if later_high < low:
        return "better" if worse > 0 else "worse"
    return "no difference"


def _mean(rows: Sequence[Signal]) -> float | None:
    weights = [(max(row.sample, 1), row.value) for row in rows if row.value is not None]
    return sum(w * v for w, v in weights) / sum(w for w, _ in weights) if weights else None

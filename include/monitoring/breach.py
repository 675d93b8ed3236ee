"""When a signal counts as a breach. Pure: rows of measurements in, what to open and what to end out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from include.monitoring.budget import HISTORY
from include.monitoring.catalogue import SIGNALS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta

State = Literal["within", "beyond", "too_few"]


@dataclass(frozen=True, slots=True)
class Signal:
    """One measurement.

    :param value: in the window, between ``low`` and ``high``; None: nothing to measure.
    :param sample: what it rests on.
    :param threshold: what the near end of ``near`` must pass to be beyond; None: never a breach.
    :param near: end of the judged interval that lies nearest to what is usual, signed so that more is worse.
    :param reference: {of, start, end, value, low, high, sample}: what it is compared with; ``of`` is the same for windows
        whose results may be counted together.
    """

    name: str
    window_start: datetime
    window_end: datetime
    value: float | None
    low: float | None
    high: float | None
    sample: int
    threshold: float | None = None
    near: float | None = None
    p: float | None = None
    state: State = "within"
    reference: Mapping[str, Any] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict)
    id: int = 0


@dataclass(frozen=True, slots=True)
class Breach:
    """A signal that stays beyond.

    :param opened_at: end of the window that established it.
    :param signals: ids of the measurements it rests on.
    :param since: start of the first window beyond.
    :param by: when it had begun for certain: end of that window, if the one before was within, else its start.
    """

    signal: str
    opened_at: datetime
    ended_at: datetime | None = None
    reason: str = ""
    signals: tuple[int, ...] = ()
    since: datetime | None = None
    id: int = 0
    by: datetime | None = None


def judged(near: float | None, sample: int, minimum: int, threshold: float | None) -> State:
    """What one window says, by the end of the interval and not by the point."""
    if near is None or sample < minimum:
        return "too_few"
    return "beyond" if threshold is not None and near > threshold else "within"


def in_breach(history: Sequence[Signal]) -> bool:
    """Whether a signal is in breach: 2 of the last 5 windows that say something are beyond, and the latest is.

    One window is enough for a number that has no chance in it, such as a training that failed.

    :param history: of one signal, oldest first. Windows that were compared with another reference say nothing here.
    """
    if not history:
        return False
    last = recent(history)
    if not last or last[-1].state != "beyond":
        return False
    return sum(one.state == "beyond" for one in last) >= SIGNALS[last[-1].name].needed


def recent(history: Sequence[Signal]) -> list[Signal]:
    """The windows that count."""
    latest = history[-1].reference.get("of")
    told = [s for s in history if s.state != "too_few" and s.reference.get("of") == latest]
    return told[-HISTORY:]


@dataclass(frozen=True, slots=True)
class Changes:
    """What a new window changes: breaches to open, and those that end with it."""

    opened: tuple[Breach, ...] = ()
    ended: tuple[Breach, ...] = ()


def changes(
    history: Mapping[str, Sequence[Signal]], breaches: Sequence[Breach], *, at: datetime, cool_down: timedelta
) -> Changes:
    """Judge the windows up to ``at``.

    :param history: measurements by signal, oldest first, the newest ends at ``at``.
    :param breaches: of before, ended ones too.
    :param cool_down: after a breach ended, before the same signal makes another.
    """
    opened, ended = [], []
    for name, rows in history.items():
        mine = [b for b in breaches if b.signal == name]
        now = next((b for b in mine if b.ended_at is None), None)
        latest = rows[-1] if rows else None
        if latest is None or latest.window_end != at or latest.state == "too_few":
            continue
        if in_breach(rows):
            rests = any(b.ended_at is not None and at < b.ended_at + cool_down for b in mine)
            if now is None and not rests:
                opened.append(_breach(name, recent(rows)))
        elif now is not None and latest.state == "within":
            ended.append(now)
    return Changes(tuple(opened), tuple(ended))


def _breach(name: str, rows: Sequence[Signal]) -> Breach:
    beyond = [row for row in rows if row.state == "beyond"]
    latest = beyond[-1]
    usual = latest.reference.get("value")
    compared = "" if usual is None else f", usually {usual:.4g}"
    value = "" if latest.value is None else f" is {latest.value:.4g} ({_bounds(latest)}){compared}"
    reason = f"{SIGNALS[name].says}{value}; beyond in {len(beyond)} of the last {len(rows)} windows"
    first, signals = beyond[0], tuple(row.id for row in beyond)
    by = first.window_start if rows[0] is first else first.window_end  # nobody knows whether it had begun before
    return Breach(name, latest.window_end, None, reason, signals, first.window_start, by=by)


def _bounds(signal: Signal) -> str:
    return "no interval" if signal.low is None or signal.high is None else f"{signal.low:.4g} to {signal.high:.4g}"

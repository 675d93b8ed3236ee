"""Thresholds from the collection's own history: so high that what it is used to would have made no breach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from include.collection_file import load_collection
from include.monitoring.budget import HISTORY
from include.monitoring.catalogue import SIGNALS
from include.store import collections, signals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from include.config import Settings
    from include.monitoring.breach import Breach, Signal
    from include.store.pool import Pool


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A threshold.

    :param before: that counted until now.
    :param windows: that were replayed.
    :param breaches: that the threshold of before would have made in them.
    """

    signal: str
    threshold: float
    before: float
    windows: int
    breaches: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "signal": self.signal, "threshold": round(self.threshold, 6), "before": round(self.before, 6),
            "windows": self.windows, "breaches": self.breaches,
        }  # fmt: skip


def calibrate(settings: Settings, pool: Pool, collection: str, *, since: datetime | None, until: datetime) -> list[Calibrated]:
    """Replay what was measured and keep the thresholds that this gives; windows measured later are judged by them.

    What was a breach was real, whatever was done about it: its windows are left out, unless a person accepted that time as
    usual.

    :param since: and ``until``: the time to replay; None: everything since the reference.
    """
    load_collection(settings, collection)
    with pool.connection() as connection:
        key = collections.collection_id(connection, collection)
        history = signals.history(connection, key, until=until, since=since)
        accepted = signals.accepted(connection, key)
        known_breaches = signals.breaches(connection, key, limit=None)
        real = unaccepted(known_breaches, accepted)
        known = signals.thresholds(connection, key)
        found = calibrated(history, real, known)
        for one in found:
            signals.save_threshold(connection, key, one.signal, one.threshold, one.as_dict())
    return found


def calibrated(history: Mapping[str, Sequence[Signal]], real: Sequence[Breach], known: Mapping[str, float]) -> list[Calibrated]:
    """Pure.

    :param real: breaches whose windows were not usual.
    :param known: thresholds calibrated before.
    """
    found = []
    for name, rows in history.items():
        kind = SIGNALS.get(name)
        if kind is None or not kind.compared or kind.threshold is None:
            continue
        usual = [row for row in rows if row.near is not None and not any(_during(row, b) for b in real if b.signal == name)]
        peaks = [_peak(usual, position) for position in range(1, len(usual))]
        if not peaks:
            continue
        before = known.get(name, kind.threshold)
        breaches = sum(peak > before for peak in peaks)
        found.append(Calibrated(name, max(kind.threshold, *peaks), before, len(usual), breaches))
    return found


def _peak(rows: Sequence[Signal], position: int) -> float:
    """The highest threshold at which this window would have been in breach: it and one of the four before lie beyond."""
    row = rows[position]
    before = [
        one.near
        for one in rows[max(0, position - HISTORY + 1) : position]
        if one.near is not None and one.reference.get("of") == row.reference.get("of")
    ]
    return min(row.near, max(before)) if before and row.near is not None else float("-inf")


def _during(row: Signal, breach: Breach) -> bool:
    began = breach.since or breach.opened_at
    return row.window_end > began and (breach.ended_at is None or row.window_end < breach.ended_at)


def unaccepted(breaches: Sequence[Breach], accepted: Sequence[tuple[datetime, datetime]]) -> list[Breach]:
    """Breaches of which no part lies in a time that a person accepted as usual, from and to. Pure."""
    return [b for b in breaches if not any(_overlaps(b, *one) for one in accepted)]


def _overlaps(breach: Breach, start: datetime, end: datetime) -> bool:
    """Whether a time that a person accepted holds some of a breach that was known then."""
    return breach.opened_at <= end and (breach.ended_at is None or breach.ended_at > start)

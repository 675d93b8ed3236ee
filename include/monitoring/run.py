"""One run of the monitor: measure what is not measured yet, judge it, decide. A second run changes nothing."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from include.collection_file import load_collection
from include.monitoring import breach, facts, golden, usual
from include.monitoring.budget import HISTORY
from include.monitoring.catalogue import DRIFT
from include.monitoring.decision import Decision, decide
from include.monitoring.due import due
from include.monitoring.measure import Scene, measure_window
from include.monitoring.windows import Window
from include.store import collections, decisions, generations, monitored, signals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.collection_file import Collection
    from include.config import Settings
    from include.monitoring.breach import Breach, Signal
    from include.monitoring.decision import Facts
    from include.progress import Progress
    from include.store.decisions import StoredDecision
    from include.store.pool import Connection, Pool

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MonitorResult:
    """What a run found.

    :param at: end of the newest window; None: nothing is measured yet.
    :param windows: measured in this run.
    :param signals: the newest measurement of each.
    :param breaches: open ones.
    :param opened: of them those that this run found.
    :param decision: of the newest window; None: none yet.
    :param decision_id: of the row that keeps it.
    """

    collection: str
    at: datetime | None
    windows: int
    signals: tuple[Signal, ...]
    breaches: tuple[Breach, ...]
    opened: tuple[Breach, ...]
    decision: Decision | None
    decision_id: int | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "collection": self.collection, "at": self.at.isoformat() if self.at else None, "windows": self.windows,
            "signals": [_signal(one) for one in self.signals],
            "breaches": [
                {
                    "id": b.id, "signal": b.signal, "opened_at": b.opened_at.isoformat(), "reason": b.reason,
                    "new": b in self.opened,
                }
                for b in self.breaches
            ],
            "decision": self.decision.as_dict() | {"id": self.decision_id} if self.decision else None,
        }  # fmt: skip


def monitor(
    settings: Settings, pool: Pool, collection: str, *, at: datetime | None = None, run_key: str, progress: Progress
) -> MonitorResult:
    """Measure every complete window up to a time, open and end breaches, and decide.

    :param at: as if it were then; None: now. Trainings and promotions of later are left out of account.
    :param run_key: of the run, for who asks later where a row came from.
    :raises BadData: the collection was never indexed.
    """
    configured = load_collection(settings, collection)
    with pool.connection() as connection:
        key = collections.collection_id(connection, collection)
    now = datetime.now(UTC)
    with signals.monitoring(pool, key):
        windows, opened = _measure(settings, pool, configured, key, at or now, run_key, progress)
        unasked: Exception | None = None
        try:
            _ask_golden(settings, pool, configured, key, now, run_key, progress)
        except Exception as error:  # the other signals are measured, and are not measured again: they are decided on
            unasked = error
        found = _conclude(settings, pool, configured, key, at or now, len(windows), opened, run_key)
        if unasked is not None:
            raise unasked
        return found


def _ask_golden(
    settings: Settings, pool: Pool, configured: Collection, key: int, now: datetime, run_key: str, progress: Progress
) -> None:
    """Ask the golden queries for the newest window, unless it is long over or they were asked: by a run that died, perhaps."""
    with pool.connection() as connection:
        newest = signals.newest_window(connection, key)
        if newest is None or newest[1] < now - timedelta(hours=2 * configured.monitoring.window_hours):
            return
        if signals.measured(connection, key, golden.NAME, newest[1]):
            return
    golden.ask(settings, pool, configured, key, Window(*newest), run_key=run_key, progress=progress)


def _measure(
    settings: Settings, pool: Pool, configured: Collection, key: int, at: datetime, run_key: str, progress: Progress
) -> tuple[list[Window], list[Breach]]:
    with pool.connection() as connection:
        windows = due(connection, key, configured.monitoring.window_hours, configured.monitoring.minimum_sample, at)
    progress.step("windows", len(windows))
    opened = []
    for window in windows:
        with pool.connection() as connection:
            measured = _one(connection, configured, key, window)
            signals.save(connection, key, measured, run_key=run_key)
            if window is not windows[-1]:  # the newest is judged with the golden queries, and decided on at once
                opened += _judge(connection, configured, key, window.end, run_key)
        progress.advance(1)
    return windows, opened


def _one(connection: Connection, configured: Collection, key: int, window: Window) -> list[Signal]:
    usual.ensure_reference(connection, key, configured.monitoring, window.end)
    _promoted(connection, key, window.end)
    live = generations.live_generation(connection, key)
    scene = Scene(
        key, configured.monitoring, live, signals.thresholds(connection, key),
        configured.retrieval.latency_budget_ms / 1000, configured.validation.max_rejected,
    )  # fmt: skip
    known = usual.usual(connection, key, configured.monitoring, window.end, live.embedder if live else None)
    return measure_window(connection, scene, window, known)


def _promoted(connection: Connection, key: int, at: datetime) -> None:
    """A model that was promoted while drift was open was trained for what is asked now: that is usual from then on."""
    drifting = [b for b in signals.breaches(connection, key, until=at) if b.ended_at is None and b.signal in DRIFT]
    current = signals.reference(connection, key, at, drift=True)
    if not drifting or current is None:
        return
    promoted = monitored.last_promotion(connection, key, at)
    if promoted is not None and promoted > max(current.valid_from, min(b.opened_at for b in drifting)):
        start = min(b.since or b.opened_at for b in drifting)
        new = signals.Reference(start, promoted, promoted, "a model was promoted that knows these questions", "drift")
        signals.save_reference(connection, key, new)


def _judge(connection: Connection, configured: Collection, key: int, at: datetime, run_key: str) -> list[Breach]:
    """Open and end breaches as of the end of a window."""
    history = signals.history(connection, key, until=at, latest=HISTORY)
    known = signals.breaches(connection, key)
    cool_down = timedelta(days=configured.monitoring.cool_down_days)
    found = breach.changes(history, known, at=at, cool_down=cool_down)
    for ended in found.ended:
        signals.end_breach(connection, ended.id, at)
        usual_start = history[ended.signal][-1].reference.get("of")
        decisions.note_effect(connection, ended.id, {ended.signal: {"ended_at": at.isoformat(), "compared_with": usual_start}})
        logger.info("%s: %s is back to what is usual", configured.name, ended.signal)
    for opened in found.opened:
        signals.open_breach(connection, key, opened, run_key=run_key)
        logger.warning("%s: breach of %s: %s", configured.name, opened.signal, opened.reason)
    new = {(b.signal, b.opened_at) for b in found.opened}
    return [b for b in signals.breaches(connection, key) if (b.signal, b.opened_at) in new]


def _conclude(
    settings: Settings,
    pool: Pool,
    configured: Collection,
    key: int,
    until: datetime,
    windows: int,
    opened: Sequence[Breach],
    run_key: str,
) -> MonitorResult:
    with pool.connection() as connection:
        at = signals.last_window(connection, key)
        stored = decisions.of_window(connection, settings.environment, key, at) if at else None
        if at and stored is None:  # also what a run measured that died before it decided
            opened = [*opened, *_judge(connection, configured, key, at, run_key)]  # the golden queries' too
        now_open = tuple(b for b in signals.breaches(connection, key) if b.ended_at is None)
        if at and stored is None:
            stored = _decide(connection, settings, configured, key, at, now_open, run_key)
        newest = signals.history(connection, key, until=until, latest=1)
    latest = tuple(rows[-1] for rows in newest.values() if rows[-1].window_end == at)
    same = {(b.signal, b.opened_at) for b in opened}
    fresh = tuple(b for b in now_open if (b.signal, b.opened_at) in same)
    decision = _stored(stored) if stored else None
    return MonitorResult(configured.name, at, windows, latest, now_open, fresh, decision, stored.id if stored else None)


def _decide(
    connection: Connection,
    settings: Settings,
    configured: Collection,
    key: int,
    at: datetime,
    now_open: Sequence[Breach],
    run_key: str,
) -> StoredDecision | None:
    """Decide and keep it; a decision that came between, such as on a report, is one that is open."""

    def kept(known: Facts) -> bool:
        decision = decide(now_open, known, configured.monitoring, at=at)
        evidence = {
            "signals": sorted({one for b in now_open for one in b.signals}),
            "breaches": [{"id": b.id, "signal": b.signal, "reason": b.reason} for b in now_open],
            "facts": facts.as_dict(known),
            "refused": decision.as_dict()["refused"],
        }
        saved = decisions.save(
            connection, environment=settings.environment, collection=key, at=at, action=decision.action, family=decision.family,
            mode=decision.mode, state=decision.state, reason=decision.reason, evidence=evidence,
            breaches=[b.id for b in now_open], monitor_key=run_key,
        )  # fmt: skip
        if saved is not None:
            logger.info("%s: %s: %s", configured.name, decision.action, decision.reason)
        return saved is not None

    known = facts.gather(connection, settings, key, now_open, at)
    if not kept(known) and (waiting := decisions.open_decision(connection, settings.environment, key)) is not None:
        kept(replace(known, open_decision=facts.said(waiting)))
    return decisions.of_window(connection, settings.environment, key, at)


def _stored(row: StoredDecision) -> Decision:
    refused = tuple((one["action"], one["why"]) for one in row.evidence.get("refused", ()))
    return Decision(row.action, row.family, row.mode, row.state, row.reason, refused)  # type: ignore[arg-type]


def _signal(one: Signal) -> dict[str, Any]:
    return {
        "name": one.name, "window": [one.window_start.isoformat(), one.window_end.isoformat()], "value": one.value,
        "low": one.low, "high": one.high, "sample": one.sample, "threshold": one.threshold, "p": one.p, "state": one.state,
        "reference": dict(one.reference),
    }  # fmt: skip

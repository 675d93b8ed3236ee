"""`monitor`: measure, judge, decide; and what a person says to it."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from include.errors import BadData

if TYPE_CHECKING:
    import argparse

    from include.config import Settings
    from include.monitoring.run import MonitorResult
    from include.output import Output
    from include.store.pool import Pool

SHOWN = 20  # decisions of --history


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = commands.add_parser("monitor", parents=[common], help="measure a collection, and decide what to do about it")
    parser.add_argument("name", help="collection")
    parser.add_argument("--at", type=_time, metavar="TIME", help="as if it were then, for example 2026-11-28T06:00 (UTC)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--calibrate", action="store_true", help="set thresholds from what was measured, up to --at")
    what.add_argument("--accept", type=float, metavar="DAYS", help="what came in so many days up to --at is usual from now on")
    what.add_argument("--history", action="store_true", help="earlier decisions")
    what.add_argument("--chain", type=int, metavar="ID", help="a decision with its breaches, training and promotion")
    what.add_argument("--approve", type=int, metavar="ID", help="let a decision that waits be carried out")
    what.add_argument("--refuse", type=int, metavar="ID", help="refuse it")
    parser.add_argument("--since", type=_time, metavar="TIME", help="where --calibrate begins")
    parser.set_defaults(run=run)


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def run(args: argparse.Namespace, settings: Settings, output: Output) -> None:
    """Run the command."""
    from include.store.pool import open_pool

    with open_pool(settings) as pool:
        if args.calibrate:
            _calibrate(args, settings, pool, output)
        elif args.accept is not None:
            _accept(args, settings, pool, output)
        elif args.history:
            _history(args, settings, pool, output)
        elif args.chain is not None:
            _chain(args, settings, pool, output)
        elif args.approve is not None or args.refuse is not None:
            _answer(args, settings, pool, output)
        else:
            _monitor(args, settings, pool, output)


def _monitor(args: argparse.Namespace, settings: Settings, pool: Pool, output: Output) -> None:
    from include.monitoring.run import monitor

    with output.progress() as progress:
        result = monitor(settings, pool, args.name, at=args.at, run_key=f"cli/{uuid.uuid4()}", progress=progress)
    output.result(result.as_dict())
    _say(output, args.name, result)


def _say(output: Output, name: str, result: MonitorResult) -> None:
    if result.at is None:
        output.line(f"{name}: no window is complete yet, or nothing was asked: nothing is measured")
        return
    rows = [
        (s.name, _number(s.value), _bounds(s.low, s.high), s.sample, _number(s.reference.get("value")), s.state)
        for s in result.signals
    ]
    title = f"{result.windows} new windows, the newest ends {result.at:%Y-%m-%d %H:%M}"
    output.table(("signal", "value", "interval", "sample", "usually", ""), rows, title=title)
    for breach in result.breaches:
        output.line(f"breach {breach.id} of {breach.signal} since {breach.opened_at:%Y-%m-%d %H:%M}: {breach.reason}")
    decision = result.decision
    if decision is None:
        return
    what = " ".join(part for part in (decision.action, decision.family) if part)
    output.line(f"decision {result.decision_id}: {what} ({decision.mode}, {decision.state}): {decision.reason}")
    for action, why in decision.refused:
        output.line(f"  not {action}: {why}")
    if decision.state == "waiting":
        output.line(f"  it waits for: ragworks monitor {name} --approve {result.decision_id}")


def _calibrate(args: argparse.Namespace, settings: Settings, pool: Pool, output: Output) -> None:
    from include.monitoring.calibrate import calibrate

    found = calibrate(settings, pool, args.name, since=args.since, until=args.at or datetime.now(UTC))
    output.result({"collection": args.name, "thresholds": [one.as_dict() for one in found]})
    if not found:
        output.line(f"{args.name}: nothing to replay yet: at least two windows after the reference are needed")
        return
    columns = ("signal", "windows", "breaches by the threshold before", "before", "now")
    rows = [(c.signal, c.windows, c.breaches, _number(c.before), _number(c.threshold)) for c in found]
    output.table(columns, rows)


def _accept(args: argparse.Namespace, settings: Settings, pool: Pool, output: Output) -> None:
    from include.monitoring.usual import accept
    from include.store import collections

    with pool.connection() as connection:
        key = collections.collection_id(connection, args.name)
        new = accept(connection, key, args.at or datetime.now(UTC), args.accept)
    output.result({"collection": args.name, "start": new.start, "end": new.end})
    output.line(f"{args.name}: windows from now on are compared with {new.start:%Y-%m-%d %H:%M} to {new.end:%Y-%m-%d %H:%M}")


def _history(args: argparse.Namespace, settings: Settings, pool: Pool, output: Output) -> None:
    from include.store import collections, decisions

    with pool.connection() as connection:
        key = collections.collection_id(connection, args.name)
        rows = decisions.history(connection, settings.environment, key, limit=SHOWN)
    kept = ("id", "at", "action", "family", "state", "reason")
    output.result({"collection": args.name, "decisions": [{name: getattr(d, name) for name in kept} for d in rows]})
    columns = ("id", "window until", "action", "state", "reason")
    shown = [(d.id, f"{d.at:%Y-%m-%d %H:%M}", " ".join(p for p in (d.action, d.family) if p), d.state, d.reason) for d in rows]
    output.table(columns, shown)


def _chain(args: argparse.Namespace, settings: Settings, pool: Pool, output: Output) -> None:
    from include.monitoring.chain import chain

    found = chain(settings, pool, args.name, args.chain)
    output.result(found)
    decision, training = found["decision"], found["training"]
    for one in found["signals"]:
        interval = _bounds(one["low"], one["high"])
        output.line(f"signal {one['id']}: {one['signal']} {_number(one['value'])} [{interval}], {one['window_end']}")
    for one in found["breaches"]:
        output.line(f"breach {one['id']}: {one['signal']}, {one['opened_at']} to {one['ended_at'] or 'now'}")
    what = " ".join(part for part in (decision["action"], decision["family"]) if part)
    output.line(f"decision {decision['id']}: {what}, {decision['state']}, {decision['created_at']}: {decision['reason']}")
    if training:
        began = training["started_at"] or training["created_at"]
        output.line(f"training {training['run_key']}: {training['state']}, version {training['version']}, began {began}")
    for one in found["promotions"]:
        output.line(f"deployment {one['id']}: {one['action']} of version {one['version']}, {one['state']}, {one['at']}")
    for one in found["after"]:
        output.line(f"signal {one['id']}: {one['signal']} {_number(one['value'])}, {one['state']}, {one['window_end']}")


def _answer(args: argparse.Namespace, settings: Settings, pool: Pool, output: Output) -> None:
    from include.store import collections, decisions

    decision, approved = args.approve or args.refuse, args.approve is not None
    with pool.connection() as connection:
        key = collections.collection_id(connection, args.name)
        found = decisions.by_id(connection, decision)
        mine = found is not None and found.collection_id == key and found.environment == settings.environment
        if not mine or not decisions.answer(connection, decision, approved=approved, actor="command line"):
            state = found.state if mine and found else "unknown"
            raise BadData(f"decision {decision} of {args.name} does not wait", f"it is {state}", "See --history")
    output.result({"decision": decision, "state": "approved" if approved else "refused"})
    output.line(f"decision {decision} is {'approved' if approved else 'refused'}")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _bounds(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.4g} to {high:.4g}"

"""From a breach to what became of it: measurements, decision, training, promotion, and the windows after, with their ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include.errors import BadData
from include.store import collections, decisions, deployments, model_runs, signals

if TYPE_CHECKING:
    from datetime import datetime

    from include.config import Settings
    from include.store.decisions import StoredDecision
    from include.store.pool import Connection, Pool

AFTER = 5  # windows after the decision that are shown


def chain(settings: Settings, pool: Pool, collection: str, decision: int) -> dict[str, Any]:
    """Everything that hangs on a decision.

    :raises BadData: the collection has no such decision.
    """
    with pool.connection() as connection:
        key = collections.collection_id(connection, collection)
        found = decisions.by_id(connection, decision)
        if found is None or found.collection_id != key:
            raise BadData(f"{collection} has no decision {decision}", "", f"See: ragworks monitor {collection} --history")
        mine = [b for b in signals.breaches(connection, key) if b.id in found.breaches]
        names = {b.signal for b in mine}
        written = signals.found_at(connection, [b.id for b in mine])
        rows = signals.by_ids(connection, sorted({one for b in mine for one in b.signals}))
        training = model_runs.find(connection, found.run_key) if found.run_key else None
        return {
            "decision": _decision(found),
            "breaches": [
                {
                    "id": b.id, "signal": b.signal, "opened_at": _iso(b.opened_at), "ended_at": _iso(b.ended_at),
                    "found_at": _iso(written.get(b.id)),
                }
                for b in mine
            ],
            "signals": rows,
            "training": None if training is None else {
                "id": training.id, "run_key": training.run_key, "family": training.family, "state": training.state,
                "version": training.version, "created_at": _iso(training.created_at), "started_at": _iso(training.started_at),
            },
            "promotions": [] if training is None else [
                {"id": d.id, "action": d.action, "state": d.state, "version": d.version, "at": _iso(d.created_at)}
                for d in deployments.of_family(connection, training.family, key)
                if d.model_run_id == training.id
            ],
            "after": _after(connection, key, names, found),
        }  # fmt: skip


def _after(connection: Connection, key: int, names: set[str], found: StoredDecision) -> list[dict[str, Any]]:
    """The breached signals in the windows since."""
    latest = signals.last_window(connection, key)
    rows = signals.history(connection, key, until=latest, since=found.at) if latest else {}
    return [
        {"id": row.id, "signal": row.name, "window_end": _iso(row.window_end), "value": row.value, "state": row.state}
        for name in sorted(names)
        for row in rows.get(name, [])[:AFTER]
    ]


def _decision(found: StoredDecision) -> dict[str, Any]:
    return {
        "id": found.id, "at": _iso(found.at), "action": found.action, "family": found.family, "mode": found.mode,
        "state": found.state, "reason": found.reason, "refused": found.evidence.get("refused", []), "run_key": found.run_key,
        "monitor_key": found.monitor_key, "created_at": _iso(found.created_at), "claimed_at": _iso(found.claimed_at),
        "outcome": found.outcome,
    }  # fmt: skip


def _iso(time: datetime | None) -> str | None:
    return time.isoformat(timespec="seconds") if time else None

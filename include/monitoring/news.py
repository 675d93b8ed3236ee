"""What people are to be told of a collection: breaches, decisions, reports. Each once, whoever asks and however often."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from include.store import alerts, decisions, deployments, signals

if TYPE_CHECKING:
    from include.store.decisions import StoredDecision
    from include.store.pool import Connection

NEWS = timedelta(days=7)  # older than this is history: a channel that is added today does not tell all of it


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to tell.

    :param key: names it, so that it is told once.
    """

    key: str
    subject: str
    text: str


def news(connection: Connection, environment: str, collection_id: int, collection: str) -> list[Item]:
    """What happened in the last days, oldest first: also what was told already."""
    since = datetime.now(UTC) - NEWS
    found = [
        Item(f"alert:{one.id}", f"{collection}: {one.source} reports {one.state}: {one.title}", one.outcome)
        for one in alerts.seen(connection, environment, collection_id, since)
    ]
    for breach in reversed(signals.breaches(connection, collection_id)):
        if breach.opened_at >= since and breach.ended_at is None:
            found.append(Item(f"breach:{breach.id}", f"{collection}: breach of {breach.signal}", breach.reason))
        if breach.ended_at is not None and breach.ended_at >= since:
            text = f"The breach of {breach.opened_at:%Y-%m-%d %H:%M} is over."
            found.append(Item(f"breach:{breach.id}:ended", f"{collection}: {breach.signal} is back", text))
    for decision in decisions.since(connection, environment, collection_id, since):
        state = "approved" if decision.state == "claimed" else decision.state  # to people both say that it begins
        found.append(Item(f"decision:{decision.id}:{state}", *_said(decision)))
    for back in deployments.rollbacks(connection, environment, collection_id, since):
        if back.actor.startswith("airflow monitor_"):
            continue  # a decision, which is told above
        to = f"version {back.version}" if back.version else "what its file names"
        what = f"{collection}: the {back.family} was rolled back to {to}"
        found.append(
            Item(f"rollback:{back.id}", what, f"By {back.actor or 'nobody named'}: {back.reason or 'no reason given'}")
        )
    return found


def title(decision: StoredDecision) -> str:
    """A decision in three words."""
    return " ".join(part for part in (decision.action.replace("_", " "), decision.family) if part)


def evidence(decision: StoredDecision) -> str:
    """Markdown for who is asked: why, what is known, and what was not chosen."""
    known: dict[str, Any] = decision.evidence
    lines = [decision.reason, ""]
    lines += [f"- breach {one['id']} of `{one['signal']}`: {one['reason']}" for one in known.get("breaches", ())]
    lines += [f"- {key}: {value}" for key, value in known.get("facts", {}).items() if value not in (None, [], {}, "")]
    if alert := known.get("alert"):
        lines.append(f"- reported by {alert['source']}: {alert['title']}")
    lines += [f"- not *{one['action']}*: {one['why']}" for one in known.get("refused", ())]
    return "\n".join([*lines, "", f"Decision {decision.id}; all of it: `ragworks monitor {decision.collection}`."])


def _said(decision: StoredDecision) -> tuple[str, str]:
    states = {
        "waiting": "waits for your answer in Airflow",
        "approved": "begins",
        "claimed": "begins",
        "started": f"is carried out by {decision.run_key}",
        "refused": f"was refused by {decision.actor or 'nobody: the time to answer is over'}",
        "done": f"is over: {_outcome(decision.outcome)}" if decision.outcome else "is for you to see to",
    }
    subject = f"{decision.collection}: {title(decision)} {states[decision.state]}"
    return subject, f"Decision {decision.id}: {decision.reason}"


def _outcome(outcome: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in outcome.items() if value not in (None, [], "", False))

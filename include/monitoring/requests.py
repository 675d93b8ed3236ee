"""What becomes of reports from other systems: each is looked at once; who asks for a training goes through the policy."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from include.monitoring import facts
from include.monitoring.decision import hindered
from include.store import alerts, decisions

if TYPE_CHECKING:
    from datetime import datetime

    from include.collection_file import Collection
    from include.config import Settings
    from include.store.alerts import StoredAlert
    from include.store.pool import Connection

STATES = {"auto": "approved", "approve": "waiting", "notify": "done"}


@dataclass(frozen=True, slots=True)
class Seen:
    """A report that was looked at.

    :param outcome: what came of it, one sentence.
    """

    id: int
    title: str
    state: str
    source: str
    outcome: str


def take_alerts(
    connection: Connection, settings: Settings, collection: Collection, collection_id: int, run_key: str
) -> list[Seen]:
    """Look at every report that no monitor has looked at.

    A report that names a family becomes a decision to train it, by the collection's policy for that family. It becomes none
    while another decision is open: one thing at a time, or nobody could say what helped.
    """
    found = []
    for number, alert in enumerate(alerts.unseen(connection, settings.environment, collection_id)):
        at = alert.received_at + timedelta(microseconds=number)  # those of one delivery came at once, and are several
        outcome = _ask(connection, settings, collection, collection_id, run_key, alert, at)
        alerts.see(connection, alert.id, run_key, outcome)
        found.append(Seen(alert.id, alert.title, alert.state, alert.source, outcome))
    return found


def _ask(
    connection: Connection,
    settings: Settings,
    collection: Collection,
    collection_id: int,
    run_key: str,
    alert: StoredAlert,
    at: datetime,
) -> str:
    if alert.family is None:
        return "the signals are measured now"
    if alert.state == "resolved":
        return "it is over: nothing is trained"
    mode = str(getattr(collection.monitoring.policy, alert.family))
    known = facts.gather(connection, settings, collection_id, (), at)
    against = hindered(alert.family, known, collection.monitoring, at=at)
    if against is not None and mode == "auto":
        mode = "approve"  # what monitoring would not do by itself a report does not do by itself either
    refused = [{"action": "by itself", "why": against}] if against else []
    evidence = {
        "facts": facts.as_dict(known),
        "refused": refused,
        "alert": {"id": alert.id, "source": alert.source, "key": alert.key, "title": alert.title, **alert.detail},
    }
    decision = decisions.save(
        connection, environment=settings.environment, collection=collection_id, at=at, action="train",
        family=alert.family, mode=mode, state=STATES[mode], reason=f"{alert.source} asks for it: {alert.title}",
        evidence=evidence, breaches=(), monitor_key=run_key,
    )  # fmt: skip
    if decision is None:
        open_one = decisions.open_decision(connection, settings.environment, collection_id)
        return f"decision {open_one.id} is open: nothing is added to it" if open_one else "one like it was decided already"
    return f"decision {decision} to train the {alert.family} is {STATES[mode]}" + (f": {against}" if against else "")

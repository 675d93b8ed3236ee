"""The page of a week: what was measured, what was beyond, what was decided, and whether it helped.

It quotes no question, no document and nothing that a person or another system wrote, for `forget` does not reach files: of a
decision that a report from elsewhere asked for, the page has the number alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.monitoring.catalogue import QUALITY, SIGNALS
from include.monitoring.effects import Effect, effects
from include.monitoring.weeks import WEEK, bounds, week_of
from include.store import collections, decisions, deployments, monitored, shadow, signals

if TYPE_CHECKING:
    from include.config import Settings
    from include.monitoring.breach import Breach, Signal
    from include.store.decisions import StoredDecision
    from include.store.deployments import Deployment
    from include.store.monitored import Log
    from include.store.pool import Connection, Pool

SHOWN_WEEKS = 8  # of each plot, the last being the page's own
TEMPLATE = Path(__file__).with_name("week.html.j2")
MANY = 1000  # breaches and decisions that are looked through


@dataclass(frozen=True, slots=True)
class Weekly:
    """What the page shows.

    :param first: where the plots begin.
    :param history: measurements by signal, oldest first.
    :param breaches: of the plots' time, as they were at its end; oldest first, as decisions and deployments are.
    :param log: of the week's questions.
    :param effects: of each deployment.
    """

    collection: str
    week: str
    start: datetime
    end: datetime
    first: datetime
    history: dict[str, list[Signal]]
    breaches: list[Breach]
    decisions: list[StoredDecision]
    deployments: list[Deployment]
    log: Log
    effects: list[Effect]
    shadow: list[dict[str, Any]]

    @property
    def in_breach(self) -> list[Breach]:
        """Breaches that were open in the week."""
        return [b for b in self.breaches if b.ended_at is None or b.ended_at >= self.start]


def publish_weekly_report(settings: Settings, pool: Pool, collection: str, week: str) -> str:
    """Write the page of a week to the artifacts, again if it is there: the week may have gone on.

    :param week: as 2026-W48.
    :return: where it lies.
    :raises BadConfiguration: it is no week, or the artifacts cannot be written.
    :raises Transient: the store is full, or does not answer.
    """
    from include.monitoring.week_page import render
    from include.registry.stores import artifacts_url, write_page

    text = render(gather(settings, pool, collection, week))
    return write_page(f"{artifacts_url(settings)}/{folder(collection)}/{week}.html", text)


def gather(settings: Settings, pool: Pool, collection: str, week: str) -> Weekly:
    """What is known of a week, as of its end.

    :raises BadConfiguration: it is no week.
    :raises BadData: the collection was never indexed.
    """
    from include.collection_file import load_collection

    start, end = bounds(week)
    budget = load_collection(settings, collection).retrieval.latency_budget_ms / 1000
    with pool.connection() as connection:
        key = collections.collection_id(connection, collection)
        first = end - SHOWN_WEEKS * WEEK
        history = signals.history(connection, key, until=end, since=first)
        found = signals.breaches(connection, key, until=end, limit=MANY)
        made = _deployments(connection, settings.environment, key, first, end)
        return Weekly(
            collection, week, start, end, first, _known(history),
            [_as_of(b, end) for b in reversed(found) if b.ended_at is None or b.ended_at >= first],
            [d for d in reversed(decisions.history(connection, settings.environment, key, MANY)) if first <= d.at < end],
            made, monitored.log(connection, key, start, end, latency_budget=budget),
            effects(history, made, end), shadow.summary(connection, key, start, end),
        )  # fmt: skip


def newest_week(pool: Pool, collection: str) -> str:
    """The week of the newest window that was measured; this one when nothing was."""
    with pool.connection() as connection:
        at = signals.last_window(connection, collections.collection_id(connection, collection))
    return week_of(at - timedelta(seconds=1)) if at else week_of(datetime.now(UTC))


def published(settings: Settings, collection: str) -> list[str]:
    """Weeks that have a page, newest first."""
    from include.registry.stores import open_store

    names = open_store(settings).names(folder(collection))
    return sorted((name.removesuffix(".html") for name in names if name.endswith(".html")), reverse=True)


def folder_shown(settings: Settings, collection: str) -> str:
    """Where the pages of a collection lie; for people, without credentials of the URL."""
    from include.registry.stores import artifacts_url, shown_url

    return f"{shown_url(artifacts_url(settings))}/{folder(collection)}"


def folder(collection: str) -> str:
    """Where the pages of a collection lie, below the artifacts."""
    return f"reports/monitoring/{collection}"


def _known(history: dict[str, list[Signal]]) -> dict[str, list[Signal]]:
    """Signals with a value, those that tell of quality first."""
    order = [*QUALITY, *(name for name in SIGNALS if name not in QUALITY)]
    return {name: history[name] for name in order if any(one.value is not None for one in history.get(name, ()))}


def _as_of(breach: Breach, end: datetime) -> Breach:
    """As it was then: one that ended later was open."""
    from dataclasses import replace

    return replace(breach, ended_at=None) if breach.ended_at is not None and breach.ended_at > end else breach


def _deployments(connection: Connection, environment: str, collection: int, first: datetime, end: datetime) -> list[Deployment]:
    from include.config import FAMILIES

    rows = [one for family in FAMILIES for one in deployments.history(connection, environment, family, collection)]
    shown = [one for one in rows if first <= one.created_at < end and one.state != "pending"]
    return sorted(shown, key=lambda one: one.created_at)

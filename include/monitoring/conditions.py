"""What a sensor can wait for. Each condition reads state and says what it is now, so that a time-out can be understood."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from include.errors import BadConfiguration
from include.store import awaited, deployments
from include.store.pool import open_connection
from include.store.watching import no_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from include.config import Settings
    from include.store.pool import Connection


@dataclass(frozen=True, slots=True)
class Condition:
    """How it stands.

    :param told: one sentence for a person who waits: what is asked for, and what there is.
    :param facts: JSON for who goes on when it is met.
    """

    met: bool
    told: str
    facts: dict[str, Any] = field(default_factory=dict)


def look(settings: Settings, condition: str, arguments: Mapping[str, Any]) -> Condition:
    """Whether a condition holds now. Writes nothing; a database without our tables meets none.

    :raises BadConfiguration: there is no such condition.
    :raises ServiceUnavailable: the database is away.
    """
    if condition not in CONDITIONS:
        raise BadConfiguration(f"condition {condition!r}", "it is unknown", f"Use one of {', '.join(CONDITIONS)}")
    with open_connection(settings) as connection:
        try:
            return CONDITIONS[condition](connection, settings, arguments)
        except no_schema():
            return Condition(False, f"nothing of collection {arguments.get('collection')} is known yet: index it first")


def fresh_index(connection: Connection, settings: Settings, arguments: Mapping[str, Any]) -> Condition:
    """The index shows its source as of ``since``, or of at most ``max_age`` seconds ago."""
    del settings
    collection = arguments["collection"]
    as_of = awaited.index_as_of(connection, collection)
    since = _moment(arguments.get("since"))
    if since is None:
        since = datetime.fromtimestamp(datetime.now(UTC).timestamp() - float(arguments["max_age"]), UTC)
    state = f"it shows the source as of {_iso(as_of)}" if as_of else "it was never indexed"
    told = f"the index of {collection} should show its source as of {_iso(since)} or later, {state}"
    return Condition(as_of is not None and as_of >= since, told, {"as_of": _iso(as_of)})


def new_feedback(connection: Connection, settings: Settings, arguments: Mapping[str, Any]) -> Condition:
    """At least ``minimum`` judgements came after ``since``."""
    del settings
    collection, minimum = arguments["collection"], int(arguments["minimum"])
    since = _moment(arguments.get("since"))
    count = awaited.feedback_since(connection, collection, since)
    told = f"{count} of {minimum} judgements of answers of {collection} have come since {_iso(since) or 'ever'}"
    return Condition(count >= minimum, told, {"count": count})


def champion_changed(connection: Connection, settings: Settings, arguments: Mapping[str, Any]) -> Condition:
    """Another deployment than ``than`` serves (0: none did)."""
    collection, family = arguments["collection"], arguments["family"]
    live = deployments.serving(connection, settings.environment, family, collection)
    now = live.id if live else 0
    name = f"version {live.version}" if live and live.version else "no trained model"
    told = f"the {family} of {collection} should change, it is still {name} (deployment {now})"
    return Condition(now != int(arguments["than"]), told, {"deployment": now, "version": live.version if live else None})


def signal(connection: Connection, settings: Settings, arguments: Mapping[str, Any]) -> Condition:
    """The newest measurement of ``signal`` after ``since`` is in ``state``, its interval within ``at_least`` and ``at_most``.

    What is asked is asked of the interval and not of the point: a small sample meets nothing by luck.
    """
    del settings
    collection, name = arguments["collection"], arguments["signal"]
    since = _moment(arguments.get("since"))
    found = awaited.newest_signal(connection, collection, name, since)
    if found is None:
        return Condition(False, f"{name} of {collection} was not measured since {_iso(since) or 'ever'}: is its monitor on?")
    asked, met = [], []
    if (state := arguments.get("state")) is not None:
        asked.append(f"be {state}")
        met.append(found.state == state)
    if (low := arguments.get("at_least")) is not None:
        asked.append(f"surely be at least {low:g}")
        met.append(found.low is not None and found.low >= low)
    if (high := arguments.get("at_most")) is not None:
        asked.append(f"surely be at most {high:g}")
        met.append(found.high is not None and found.high <= high)
    told = f"{name} of {collection} should {' and '.join(asked)}, it is {_shown(found)}"
    facts = {"value": found.value, "low": found.low, "high": found.high, "sample": found.sample, "state": found.state}
    return Condition(all(met), told, facts | {"window_end": _iso(found.window_end)})


CONDITIONS: dict[str, Callable[[Connection, Settings, Mapping[str, Any]], Condition]] = {
    "fresh_index": fresh_index,
    "new_feedback": new_feedback,
    "champion_changed": champion_changed,
    "signal": signal,
}


def _shown(found: awaited.Measured) -> str:
    if found.value is None:
        return f"{found.state} (a sample of {found.sample})"
    interval = f" [{found.low:.4g}, {found.high:.4g}]" if found.low is not None and found.high is not None else ""
    return f"{found.state}: {found.value:.4g}{interval}, a sample of {found.sample}, window until {_iso(found.window_end)}"


def _moment(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadConfiguration(f"since {text!r}", "it is not a moment", "Write 2026-11-28T12:00:00+00:00") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _iso(moment: datetime | None) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds") if moment else ""

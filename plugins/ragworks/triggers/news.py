"""Has a collection's monitor look at once: when another system reports something, or people have judged enough answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from ragworks.triggers.looking import looks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from include.config import Settings


class AlertTrigger(BaseEventTrigger):
    """Fire when reports have arrived that no monitor has looked at; again after five minutes when none has.

    :param collection: name of the collection.
    :param seconds: between two looks.
    """

    def __init__(self, collection: str, seconds: float = 2.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.collection = collection
        self.seconds = seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What the triggerer makes this one of."""
        return "ragworks.triggers.news.AlertTrigger", {"collection": self.collection, "seconds": self.seconds}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """An event a batch: ``{collection, reports}``."""
        async for look in looks(f"reports about {self.collection}", self.seconds, self._take):
            if look.found:
                yield TriggerEvent({"collection": self.collection, "reports": look.found})  # type: ignore[no-untyped-call]

    def _take(self, settings: Settings) -> int:
        from include.store import alerts
        from include.store.pool import open_connection, open_pool
        from include.store.watching import no_schema

        with open_connection(settings) as connection:
            try:
                if not alerts.waiting(connection, settings.environment, self.collection):
                    return 0
            except no_schema():
                return 0
        with open_pool(settings, max_size=1) as pool, pool.connection() as connection:
            return alerts.announce(connection, settings.environment, self.collection)


class FeedbackTrigger(BaseEventTrigger):
    """Fire when so many answers were judged since the signals were last measured, and again after as many more.

    Only when a window is over that was not measured: there would be nothing to measure, and what is measured once stays.

    :param collection: name of the collection.
    :param minimum: judgements; also questions that make a window.
    :param hours: length of a window.
    :param seconds: between two looks.
    """

    def __init__(self, collection: str, minimum: int, hours: float, seconds: float = 10.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.collection = collection
        self.minimum = minimum
        self.hours = hours
        self.seconds = seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What the triggerer makes this one of."""
        kwargs = {
            "collection": self.collection, "minimum": self.minimum, "hours": self.hours, "seconds": self.seconds,
        }  # fmt: skip
        return "ragworks.triggers.news.FeedbackTrigger", kwargs

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """An event: ``{collection, judgements}``."""
        announced, measured_before = 0, None
        async for look in looks(f"feedback on {self.collection}", self.seconds, self._count):
            if look.found is None:
                continue
            count, measured = look.found
            if measured != measured_before:
                announced, measured_before = 0, measured
            if count - announced >= self.minimum:
                announced = count
                yield TriggerEvent({"collection": self.collection, "judgements": count})  # type: ignore[no-untyped-call]

    def _count(self, settings: Settings) -> tuple[int, datetime | None]:
        from include.monitoring.due import due
        from include.store import awaited, collections
        from include.store.pool import open_connection
        from include.store.watching import no_schema

        with open_connection(settings) as connection:
            try:
                measured = awaited.last_measured(connection, self.collection)
                count = awaited.feedback_since(connection, self.collection, measured)
                if count < self.minimum:
                    return count, measured
                key = collections.collection_id(connection, self.collection)
                now = datetime.now(UTC)
                return count if due(connection, key, self.hours, self.minimum, now) else 0, measured
            except no_schema():
                return 0, None

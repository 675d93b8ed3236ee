"""Which windows are over and not measured yet: what a run measures, and whether there is anything to wake one for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.monitoring.windows import ORIGIN, Window, before, complete
from include.store import monitored, signals

if TYPE_CHECKING:
    from datetime import datetime

    from include.store.pool import Connection


def due(connection: Connection, collection: int, hours: float, minimum: int, at: datetime) -> list[Window]:
    """Windows that are over by a time, oldest first, without those that were measured.

    :param hours: length of a window.
    :param minimum: questions below which it is joined to the next.
    """
    start = signals.last_window(connection, collection)
    if start is None:
        first = monitored.first_question(connection, collection)
        if first is None:
            return []
        start = before(first, hours)
    asked = monitored.questions_by_window(connection, collection, start, at, origin=ORIGIN, hours=hours)
    return [*complete(start, at, hours, minimum=minimum, asked=asked)]

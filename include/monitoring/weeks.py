"""Calendar weeks as people name them: 2026-W48, from Monday to Monday in UTC (ISO 8601)."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta

from include.errors import BadConfiguration

WEEK = timedelta(days=7)


def week_of(at: datetime) -> str:
    """The week in which a moment lies."""
    year, week, _ = at.astimezone(UTC).isocalendar()
    return f"{year}-W{week:02}"


def bounds(week: str) -> tuple[datetime, datetime]:
    """From its Monday, before the next.

    :raises BadConfiguration: it is no week.
    """
    found = re.fullmatch(r"(\d{4})-W(\d{2})", week)
    try:
        monday = date.fromisocalendar(int(found[1]), int(found[2]), 1) if found else None
    except ValueError:
        monday = None
    if monday is None:
        raise BadConfiguration(f"week {week!r}", "it is no week of the calendar", "Write it as 2026-W48")
    start = datetime.combine(monday, time(), UTC)
    return start, start + WEEK

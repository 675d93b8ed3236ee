"""Windows of time on a fixed grid, so that whoever measures, and however late, measures the same ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ORIGIN = datetime(2024, 1, 1, tzinfo=UTC)  # a Monday
LONGEST = 30  # windows of the grid that are joined at most while too little is asked


@dataclass(frozen=True, slots=True)
class Window:
    """From ``start``, before ``end``."""

    start: datetime
    end: datetime


def before(time: datetime, hours: float) -> datetime:
    """The line of the grid at or before a time."""
    length = timedelta(hours=hours)
    return ORIGIN + math.floor((time - ORIGIN) / length) * length


def complete(
    start: datetime, at: datetime, hours: float, *, minimum: int, count: Callable[[datetime, datetime], int]
) -> Iterator[Window]:
    """Windows that are over by ``at``, oldest first; one with too few questions is joined to the next.

    :param start: on the grid.
    :param count: questions from one time to another.
    """
    length = timedelta(hours=hours)
    end = start + length
    while end <= at:
        if count(start, end) >= minimum or end - start >= LONGEST * length:
            yield Window(start, end)
            start = end
        end += length

"""Windows of time on a fixed grid, so that whoever measures, and however late, measures the same ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

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


def complete(start: datetime, at: datetime, hours: float, *, minimum: int, asked: Mapping[int, int]) -> Iterator[Window]:
    """Windows that are over by ``at``, oldest first; one with too few questions is joined to the next.

    Where nothing was asked for as long as :data:`LONGEST` windows there is none.

    :param start: on the grid.
    :param asked: questions by the number of the window of the grid.
    """
    length = timedelta(hours=hours)
    first = last = round((start - ORIGIN) / length)
    count = 0
    while ORIGIN + (last + 1) * length <= at:
        count += asked.get(last, 0)
        last += 1
        if count >= minimum or last - first >= LONGEST:
            if count:
                yield Window(ORIGIN + first * length, ORIGIN + last * length)
            first, count = last, 0

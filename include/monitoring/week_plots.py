"""Draws a signal over the weeks, in the look of :mod:`include.evaluation.plots`: value, interval, what is usual, breaches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include.evaluation.plots import BAD, FAINT, GOOD, MAIN, SECOND, drawing, svg

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from matplotlib.axes import Axes

    from include.monitoring.breach import Breach, Signal

WIDTH, HEIGHT = 4.7, 1.75  # inches
ROOM = 0.12  # of the values' range, above and below
EDGE = 0.012  # of the time shown, after its end: the newest point is whole


def signal_plot(
    name: str,
    rows: Sequence[Signal],
    breaches: Sequence[Breach],
    changed: Sequence[datetime],
    shown: tuple[datetime, datetime, datetime],
) -> str:
    """One signal.

    :param breaches: of this signal.
    :param changed: when another model went live.
    :param shown: where the plot begins, where its last week does, and its end.
    """
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    first, week, end = map(_days, shown)
    told = [row for row in rows if row.value is not None]
    with drawing(HEIGHT, WIDTH) as (figure, axes):
        axes.axvspan(week, end, color=FAINT, alpha=0.08, linewidth=0, zorder=0)
        for breach in breaches:
            until = breach.ended_at or shown[2]
            axes.axvspan(max(first, _days(breach.opened_at)), _days(until), color=BAD, alpha=0.13, linewidth=0, zorder=0)
        _usual(axes, told)
        _values(axes, told)
        for at in changed:
            axes.axvline(_days(at), color=GOOD, linewidth=1.3, linestyle=(0, (4, 2)), zorder=2)
        axes.set_xlim(first, end + EDGE * (end - first))
        _limits(axes, told)
        locator = AutoDateLocator(minticks=3, maxticks=6)  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))  # type: ignore[no-untyped-call]
        axes.yaxis.set_major_locator(_few_ticks())
        axes.tick_params(axis="y", colors=FAINT, length=0, labelsize=8)
        axes.tick_params(axis="x", labelsize=8, length=0)
        axes.grid(axis="x", visible=False)
        return svg(figure, f"{name} over the last weeks")


def _usual(axes: Axes, rows: Sequence[Signal]) -> None:
    """The reference: its value and its interval, where each window was compared with it."""
    known = [row for row in rows if row.reference.get("value") is not None]
    if not known:
        return
    times = [_days(edge) for row in known for edge in (row.window_start, row.window_end)]
    values = [row.reference["value"] for row in known for _ in range(2)]
    axes.plot(times, values, color=SECOND, linewidth=1, linestyle=(0, (2, 2)), zorder=1)
    if all(row.reference.get("low") is not None and row.reference.get("high") is not None for row in known):
        low, high = ([row.reference[side] for row in known for _ in range(2)] for side in ("low", "high"))
        axes.fill_between(times, low, high, color=SECOND, alpha=0.16, linewidth=0, zorder=1)


def _values(axes: Axes, rows: Sequence[Signal]) -> None:
    """A point where its window ends, with its interval; a window that is too small to say anything is hollow."""
    points = [(_days(row.window_end), row.value, row) for row in rows if row.value is not None]
    axes.plot([at for at, _, _ in points], [value for _, value, _ in points], color=MAIN, linewidth=1.2, zorder=3)
    for at, value, row in points:
        colour = BAD if row.state == "beyond" else MAIN
        if row.low is not None and row.high is not None:
            axes.plot([at, at], [row.low, row.high], color=colour, linewidth=3, alpha=0.3, solid_capstyle="round", zorder=2)
        inside = "white" if row.state == "too_few" else colour
        axes.plot(at, value, "o", markersize=4, color=colour, markerfacecolor=inside, zorder=4)


def _days(at: datetime) -> float:
    """As matplotlib counts time: days since 1970."""
    return at.timestamp() / 86_400


def _limits(axes: Axes, rows: Sequence[Signal]) -> None:
    """Wide enough for intervals and reference; flat lines get room as well."""
    seen = [
        value
        for row in rows
        for value in (row.value, row.low, row.high, *(row.reference.get(key) for key in ("value", "low", "high")))
        if value is not None
    ]
    low, high = min(seen), max(seen)
    room = (high - low) * ROOM or max(abs(high) * ROOM, 0.01)
    axes.set_ylim(low - room, high + room)


def _few_ticks() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=4)

"""Draws a training and its comparison, in the look of :mod:`include.evaluation.plots`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include.evaluation.plots import BAD, FAINT, GOOD, INK, MAIN, ROW, SECOND, drawing, legend, rows, short, svg

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

MOST_SLICES = 30
FAR = 4  # times the slowest percentile: a budget beyond is told, not drawn
_COLOURS = {"better": GOOD, "worse": BAD}
_PERCENTILES = (("p50_ms", 0.45), ("p95_ms", 1.0), ("p99_ms", 0.22))  # the one that counts is the darkest


def loss_plot(points: Sequence[tuple[float, float]]) -> str:
    """The loss by step."""
    with drawing(2.6) as (figure, axes):
        axes.plot([step for step, _ in points], [loss for _, loss in points], color=MAIN, linewidth=1.6)
        _by_step(axes, "loss")
        axes.set_ylim(bottom=0)
        return svg(figure, "Training loss by step")


def dev_plot(points: Sequence[tuple[float, float]], *, measure: str, before: float | None, best: float | None) -> str:
    """The score on the development questions by step, from before the first.

    :param best: the step whose model was kept.
    """
    known = ([(0.0, before)] if before is not None else []) + list(points)
    with drawing(2.6) as (figure, axes):
        axes.plot([s for s, _ in known], [v for _, v in known], color=SECOND, linewidth=1.6, marker="o", markersize=4)
        for step, value in known:
            if step == best:
                axes.plot(step, value, "o", color=GOOD, markersize=9, zorder=4, label="kept")
        if before is not None:
            axes.axhline(before, color=FAINT, linewidth=1, linestyle=(0, (4, 3)), label="before training")
        if before is not None or best is not None:
            legend(axes, 2)
        _by_step(axes, f"{measure} (development)")
        return svg(figure, "Score on the development questions by step")


def weight_plot(curve: Sequence[tuple[float, float]], chosen: float, *, measure: str) -> str:
    """The score of both stages together by the weight of the second."""
    with drawing(2.6) as (figure, axes):
        axes.plot([w for w, _ in curve], [v for _, v in curve], color=SECOND, linewidth=1.6, marker="o", markersize=4)
        axes.axvline(chosen, color=GOOD, linewidth=1.2, linestyle=(0, (4, 3)), label=f"taken: {chosen:g}")
        legend(axes, 1)
        axes.set_xlabel("share of the reranker's score; 0 is the first stage alone")
        axes.set_ylabel(f"{measure} (development)")
        axes.tick_params(axis="y", colors=FAINT, length=0)
        return svg(figure, "Score by the weight of the reranker")


def versus_plot(champion: Mapping[str, Mapping[str, Any]], challenger: Mapping[str, Mapping[str, Any]]) -> str:
    """Both by each measure, with their intervals."""
    names = [name for name in champion if name in challenger]
    with drawing(len(names) * (ROW + 0.12) + 0.7) as (figure, axes):
        for row, name in enumerate(names):
            for value, colour, shift in ((champion[name], MAIN, -0.16), (challenger[name], SECOND, 0.16)):
                _with_interval(axes, row + shift, value, colour)
        axes.plot([], [], "o", color=MAIN, label="champion")
        axes.plot([], [], "o", color=SECOND, label="challenger")
        legend(axes, 2)
        rows(axes, names)
        axes.set_xlim(0, 1.12)
        axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
        return svg(figure, "Champion and challenger with their 95 % intervals")


def forest_plot(entries: Sequence[tuple[str, Mapping[str, Any]]], *, measure: str, limit: float | None = None) -> str:
    """Differences with their intervals, a row each: the whole, then the slices.

    :param entries: name, and a verdict as JSON.
    :param limit: what a slice may lose.
    """
    shown = list(entries)[: MOST_SLICES + 1]
    with drawing(len(shown) * ROW + 0.9) as (figure, axes):
        for row, (_, one) in enumerate(shown):
            colour = _COLOURS.get(one["outcome"], FAINT)
            if one["low"] is not None:
                axes.plot([one["low"], one["high"]], [row, row], color=colour, linewidth=2, solid_capstyle="butt", zorder=3)
            axes.plot(one["mean"], row, "s" if row else "D", color=colour, markersize=7, zorder=4)
            axes.annotate(f"{one['mean']:+.3f}", (1.02, row), xycoords=("axes fraction", "data"), va="center", fontsize=9,
                          annotation_clip=False)  # fmt: skip
        axes.axvline(0, color=INK, linewidth=1)
        if limit is not None and len(shown) > 1:
            axes.axvline(-limit, color=BAD, linewidth=1, linestyle=(0, (4, 3)))
        rows(axes, [f"{short(name)} ({one['queries']})" for name, one in shown])
        axes.set_xlabel(f"difference of {measure}, challenger less champion")
        return svg(figure, f"Difference of {measure} by slice")


def budget_plot(sides: Mapping[str, Mapping[str, Any]], budget: float, labels: Mapping[str, str]) -> str:
    """Percentiles of a search for each side, against the budget."""
    names = list(sides)
    with drawing(len(names) * 0.85 + 0.9) as (figure, axes):
        for row, name in enumerate(names):
            warm = sides[name]["warm"]
            for place, (percentile, strength) in enumerate(_PERCENTILES):
                value = warm[percentile]
                over = value > budget and percentile == "p95_ms"
                axes.barh(row + (place - 1) * 0.26, value, height=0.22, color=BAD if over else MAIN, alpha=strength, zorder=2)
                axes.annotate(f"{percentile[:3]} {value:,.0f} ms", (value, row + (place - 1) * 0.26), xytext=(5, 0),
                              textcoords="offset points", va="center", fontsize=8)  # fmt: skip
        rows(axes, [short(labels.get(name, name)) for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        slowest = max(side["warm"]["p99_ms"] for side in sides.values())
        if budget > FAR * slowest:  # a line out there would leave no room for the bars
            axes.set_xlabel(f"ms; the budget, {budget:,.0f} ms, is far to the right")
        else:
            axes.set_xlabel("ms")
            axes.axvline(budget, color=BAD, linewidth=1.2, linestyle=(0, (4, 3)))
            axes.annotate(f"budget {budget:,.0f} ms", (budget, 1), xycoords=("data", "axes fraction"), xytext=(0, 4),
                          textcoords="offset points", ha="center", fontsize=9, color=BAD)  # fmt: skip
        axes.set_xlim(0, 1.2 * max(slowest, budget if budget <= FAR * slowest else 0))
        return svg(figure, "Latency against the budget")


def _with_interval(axes: Axes, row: float, value: Mapping[str, Any], colour: str) -> None:
    if value["low"] is not None:
        axes.plot(
            [value["low"], value["high"]], [row, row], color=colour, linewidth=5, alpha=0.28, solid_capstyle="round", zorder=2
        )
    axes.plot(value["value"], row, "o", color=colour, markersize=6, zorder=3)
    axes.annotate(f"{value['value']:.3f}", (1.03, row), va="center", fontsize=9, color=colour, annotation_clip=False)


def _by_step(axes: Axes, label: str) -> None:
    axes.set_xlabel("step")
    axes.set_ylabel(label)
    axes.tick_params(axis="y", colors=FAINT, length=0)

"""Draws a report as SVG that stands in the page itself; one look, few colours, no chart that a table says better."""

from __future__ import annotations

import html
import io
import re
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, GRID = "#1f2933", "#7b8794", "#e4e7eb"
MAIN, SECOND, GOOD, BAD = "#2f6f8f", "#c77d2e", "#2e7d5b", "#b4443c"
ROW, _WIDTH = 0.42, 7.2  # inches: of a bar with its gap, of a chart
LONGEST_LABEL, MOST_SLICES = 34, 30
_STYLE = {
    "font.size": 10, "axes.edgecolor": GRID, "axes.labelcolor": FAINT, "xtick.color": FAINT, "ytick.color": INK,
    "text.color": INK, "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.8, "axes.axisbelow": True, "svg.hashsalt": "ragworks",
    "svg.fonttype": "path", "figure.facecolor": "none", "axes.facecolor": "none",
}  # fmt: skip


def measures_plot(
    measures: Mapping[str, Mapping[str, float]], challenger: Mapping[str, Mapping[str, Any]] | None = None
) -> str:
    """Each measure with its interval; the challenger's value beside it."""
    names = list(measures)
    with drawing(len(names) * ROW + 0.7) as (figure, axes):
        for row, name in enumerate(names):
            _interval(axes, row, measures[name], MAIN)
            if challenger:
                value = challenger[name]["challenger"]
                axes.plot(value, row, marker="D", markersize=6, color=SECOND, zorder=4)
        if challenger:
            axes.plot([], [], "o", color=MAIN, label="as it is")
            axes.plot([], [], "D", color=SECOND, label="challenger")
            legend(axes, 2)
        rows(axes, names)
        axes.set_xlim(0, 1.12)
        axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
        return svg(figure, "Measures with their 95 % intervals")


def slices_plot(table: Mapping[str, Mapping[str, Any]], key: str, measure: str, whole: float) -> str:
    """A bar a slice, the whole as a line; at most MOST_SLICES, the largest."""
    largest = sorted(table, key=lambda name: -table[name]["queries"])[:MOST_SLICES]
    names = sorted(largest, key=lambda name: -table[name][measure])
    with drawing(len(names) * ROW + 0.7) as (figure, axes):
        for row, name in enumerate(names):
            one = table[name]
            axes.barh(row, one[measure], height=0.56, color=MAIN, alpha=0.85, zorder=2)
            if one["low"] is not None:
                axes.plot([one["low"], one["high"]], [row, row], color=INK, linewidth=1.2, zorder=3, solid_capstyle="butt")
            axes.annotate(
                f"{one[measure]:.3f}", (max(one[measure], one["high"] or 0), row), xytext=(6, 0),
                textcoords="offset points", va="center", fontsize=9,
            )  # fmt: skip
        axes.axvline(whole, color=SECOND, linewidth=1.2, linestyle=(0, (4, 3)), zorder=4)
        axes.annotate(f"all {whole:.3f}", (whole, 1), xycoords=("data", "axes fraction"), xytext=(0, 4),
                      textcoords="offset points", ha="center", fontsize=9, color=SECOND)  # fmt: skip
        rows(axes, [f"{short(name)} ({table[name]['queries']})" for name in names])
        axes.set_xlim(0, 1.12)
        axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
        return svg(figure, f"{measure} by {key}")


def latency_plot(curves: Sequence[tuple[str, Sequence[Sequence[float]]]]) -> str:
    """Milliseconds by percentile: how long the slowest of a hundred wait."""
    with drawing(2.9) as (figure, axes):
        for (label, curve), colour in zip(curves, (MAIN, SECOND), strict=False):
            ranks = range(len(curve))
            axes.plot(ranks, [ms for _, ms in curve], color=colour, linewidth=2, marker="o", markersize=4, label=label)
        percents = [percent for percent, _ in curves[0][1]]
        axes.set_xticks(range(len(percents)), ["slowest" if percent == 100 else f"p{percent:g}" for percent in percents])
        axes.set_ylim(bottom=0)
        axes.set_ylabel("ms")
        axes.tick_params(axis="y", colors=FAINT, length=0)
        axes.grid(axis="x", visible=False)
        if len(curves) > 1:
            legend(axes, 2)
        return svg(figure, "Latency by percentile")


def difference_plot(histogram: Mapping[str, Any], measure: str) -> str:
    """How the differences are spread: a mean of nothing may hide many gains and as many losses."""
    from matplotlib.ticker import MaxNLocator

    edges, counts = histogram["edges"], histogram["counts"]
    centres = [(a + b) / 2 for a, b in pairwise(edges)]
    middle = len(counts) // 2
    counted = [count if number != middle else 0 for number, count in enumerate(counts)]
    colours = [BAD if centre < 0 else GOOD for centre in centres]
    with drawing(2.6) as (figure, axes):
        axes.bar(centres, counted, width=edges[1] - edges[0], color=colours, edgecolor="white", linewidth=1, zorder=2)
        axes.axvline(0, color=FAINT, linewidth=1)
        axes.set_xlim(-1, 1)
        axes.set_xlabel(
            f"difference of {measure}, challenger less champion; about nothing: {counts[middle]} queries, not drawn"
        )
        axes.set_ylabel("queries")
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        axes.tick_params(axis="y", colors=FAINT, length=0)
        axes.grid(axis="x", visible=False)
        return svg(figure, "Differences by query")


@contextmanager
def drawing(height: float, width: float = _WIDTH) -> Iterator[tuple[Figure, Axes]]:
    """A figure of a size in inches with its axes, in our style and without pyplot's global state."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots()


def _interval(axes: Axes, row: int, value: Mapping[str, float], colour: str) -> None:
    if value["low"] is not None:
        axes.plot(
            [value["low"], value["high"]], [row, row], color=colour, linewidth=6, alpha=0.28, solid_capstyle="round", zorder=2
        )
    axes.plot(value["value"], row, marker="o", markersize=7, color=colour, zorder=3)
    axes.annotate(f"{value['value']:.3f}", (1.03, row), va="center", fontsize=10, annotation_clip=False)


def rows(axes: Axes, names: Sequence[str]) -> None:
    """Names down the left side, the first on top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)


def legend(axes: Axes, columns: int) -> None:
    """Above the axes, where no data is."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, frameon=False, fontsize=9, borderaxespad=0.2)


def short(text: str) -> str:
    """A label that fits beside a bar."""
    return text if len(text) <= LONGEST_LABEL else text[: LONGEST_LABEL - 1] + "…"


def svg(figure: Figure, title: str) -> str:
    """The element alone, scaling with the page, with a name for those who do not see it."""
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    text = drawn.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    title = html.escape(title)
    text = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r'(<svg [^>]*?)height="[^"]*"', lambda m: f'{m[1]}role="img" aria-label="{title}"', text, count=1)
    return re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{_prefix(title)}-", text)


def _prefix(title: str) -> str:
    """Several drawings of one page must not share ids."""
    return re.sub(r"\W+", "-", title.lower())

"""The report as plots: ``python -m bench.incremental.plots REPORT.json`` writes SVG files beside it.

Ink is a middle grey and the ground is clear, so that a plot reads on a light page and on a dark one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt

INK = "#7d7d7d"  # contrast above 4 on white and on GitHub's dark ground
COLOURS = {"ragworks": "#1f8a70", "langchain": "#3f7fd0", "llamaindex": "#c9772b", "cocoindex": "#a05cb8"}
CASES = {
    "first": "first index", "unchanged": "unchanged", "touched": "every file touched", "step": "version to version",
    "config": "chunk size changed", "renamed": "every file renamed",
}  # fmt: skip
STYLE = {
    "font.size": 10, "font.family": "sans-serif", "svg.fonttype": "none", "svg.hashsalt": "ragworks",
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False, "legend.frameon": False,
}  # fmt: skip


def main() -> None:
    """Write NAME-seconds.svg, NAME-texts.svg and NAME-serving.svg."""
    path = Path(sys.argv[1])
    report = json.loads(path.read_text(encoding="utf-8"))
    with plt.rc_context(STYLE):
        _bars(report, "seconds", "seconds of the work, logarithmic; hatched: the index ended wrong", path)
        _bars(report, "texts", "texts embedded, logarithmic from 1; hatched: the index ended wrong", path)
        _serving(report, path)


def _bars(report: dict[str, Any], figure: str, label: str, path: Path) -> None:
    peers = list(report["peers"].items())
    height = 0.8 / len(peers)
    plot, axes = plt.subplots(figsize=(8, 0.9 + len(CASES) * (0.2 + 0.21 * len(peers))))
    floor = 1e9
    bars = []
    for place, (name, peer) in enumerate(peers):
        for row, case in enumerate(CASES):
            found = peer["cases"].get(case, {})
            if figure in found:
                bars.append((row + (place - (len(peers) - 1) / 2) * height, name, found))
                floor = min(floor, found[figure] or floor)
    floor = 0.5 if figure == "texts" else floor / 2
    for y, name, found in bars:
        value, hatch = found[figure], "" if found["check"]["right"] else "////"
        axes.barh(
            y, max(value - floor, 0), height * 0.9, floor, color=COLOURS.get(name, INK), hatch=hatch, edgecolor="white", lw=0
        )
        text = f"{value:,}" if figure == "texts" else f"{value:.2g}" if value < 10 else f"{value:.0f}"
        axes.text(max(value, floor) * 1.06, y, text, va="center", fontsize=8)
    axes.set_xscale("log")
    axes.set_xlim(left=floor)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.set_yticks(range(len(CASES)), list(CASES.values()))
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xlabel(label)
    handles = [plt.Rectangle((0, 0), 1, 1, color=COLOURS.get(name, INK)) for name, _ in peers]
    _finish(plot, axes, handles, [peer["title"] for _, peer in peers], path, figure)


def _serving(report: dict[str, Any], path: Path) -> None:
    plot, axes = plt.subplots(figsize=(8, 3.2))
    handles, titles = [], []
    for name, peer in report["peers"].items():
        found = peer["cases"].get("watched", {})
        if "samples" not in found:
            continue
        seconds = found["seconds_with_reader"]
        x = [100 * min(1, s["seconds"] / seconds) for s in found["samples"]]
        width = 5 if name == "ragworks" else 1.8  # lines that lie on each other can be told apart
        handles += axes.plot(x, [100 * s["kept"] for s in found["samples"]], color=COLOURS.get(name, INK), lw=width)
        titles.append(peer["title"])
    axes.set_ylim(0, 104)
    axes.set_xlim(0, 100)
    axes.set_xlabel("progress of the step, % of its seconds")
    axes.set_ylabel("% of the rows that both\nversions have, visible")
    _finish(plot, axes, handles, titles, path, "serving")


def _finish(plot: Any, axes: Any, handles: list[Any], titles: list[str], path: Path, figure: str) -> None:
    axes.legend(handles, titles, loc="lower left", bbox_to_anchor=(0, 1), ncols=4, fontsize=9, handlelength=1.2)
    target = path.with_name(f"{path.stem}-{figure}.svg")
    plot.savefig(target, transparent=True, bbox_inches="tight", metadata={"Date": None})
    plt.close(plot)


if __name__ == "__main__":
    main()

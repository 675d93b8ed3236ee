"""Table and plot of bench/filtered.py."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bench.incremental.plots import INK, STYLE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TITLES = {
    "served": "as served", "plain": "HNSW, filtered after", "strict": "iterative, strict",
    "relaxed": "iterative, relaxed", "exact": "exact scan",
}  # fmt: skip
COLOURS = {"served": "#1f8a70", "plain": "#b2473e", "strict": "#3f7fd0", "relaxed": "#a05cb8", "exact": "#c9772b"}
RECALL, LEXICAL_MS = 0.98, 60


def write(out: Path) -> None:
    """OUT.md and OUT.svg from OUT.json."""
    report = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    out.with_suffix(".md").write_text(page(report, out.name), encoding="utf-8")
    plot(report, out.with_suffix(".svg"))


def page(report: dict[str, Any], name: str) -> str:
    """The figures for people."""
    return (
        "# Filtered search\n\n"
        f"`{report['command']}`: {report['documents']:,} documents in {report['chunks']:,} chunks, all-MiniLM-L6-v2, halfvec,"
        f" HNSW m 16 and ef_construction 64, {report['questions']} judged questions, one client, {report['cpus']} cores. Load"
        f" of the machine {report['load_before']:.1f} before, {report['load_after']:.1f} after: where that is above 1, other"
        " work ran on it. The question's embedding is not counted.\n\n"
        f"![recall and milliseconds by the share that may be seen]({name}.svg)\n\n" + table(report)
    )


def table(report: dict[str, Any]) -> str:
    """Recall@10 and milliseconds of each way; then the modes; then what does not hold."""
    lines = [
        "| may be seen | chunks | " + " | ".join(TITLES.values()) + " |",
        "|---|---|" + "---|" * len(TITLES),
    ]
    for row in report["rows"]:
        cells = [_cell(row["ways"].get(way)) for way in TITLES]
        lines.append(f"| {_title(row)} | {row['chunks']:,} | " + " | ".join(cells) + " |")
    lines += ["", "Each cell: recall@10 · p50 / p95 in milliseconds.", ""]
    lines += ["| mode | questions of | asked | p50 ms | p95 ms |", "|---|---|---|---|---|"]
    lines += [f"| {m['mode']} | {m['part']} | {m['asked']} | {m['p50_ms']} | {m['p95_ms']} |" for m in report["modes"]]
    return "\n".join([*lines, "", *_verdicts(report), ""])


def _cell(figures: dict[str, Any] | None) -> str:
    return f"{figures['recall@10']:.3f} · {figures['p50_ms']} / {figures['p95_ms']}" if figures else ""


def _title(row: dict[str, Any]) -> str:
    share = f"{row['share'] * 100:.2g} %" if row["share"] < 0.995 else "all"
    kind = {"acl": ", by access list", "far": ", far from the question"}.get(row["case"][:3], "")
    return share + kind


def _verdicts(report: dict[str, Any]) -> list[str]:
    recall = min(row["ways"]["served"]["recall@10"] for row in report["rows"])
    lexical = max(m["p95_ms"] for m in report["modes"] if m["mode"] == "lexical")
    return [
        f"- {'pass' if recall >= RECALL else 'FAIL'}: least recall@10 as served {recall:.3f} (limit {RECALL})",
        f"- {'pass' if lexical <= LEXICAL_MS else 'FAIL'}: greatest lexical p95 {lexical} ms (limit {LEXICAL_MS})",
    ]


def plot(report: dict[str, Any], target: Path) -> None:
    """Recall and the 95th percentile by the share that may be seen."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    rows = sorted((r for r in report["rows"] if not r["case"].startswith(("acl", "far"))), key=lambda r: r["share"])
    with plt.rc_context(STYLE):
        figure, (above, below) = plt.subplots(2, 1, figsize=(8, 5.6), sharex=True)
        handles = [_line(above, rows, way, "recall@10") for way in TITLES]
        for way in TITLES:
            _line(below, rows, way, "p95_ms")
        above.axhline(RECALL, color=INK, lw=0.8, ls=":")
        above.set_ylabel("recall@10")
        above.set_ylim(0, 1.03)
        below.set_ylabel("p95, ms")
        below.set_yscale("log")
        below.set_xscale("log")
        below.set_xticks([r["share"] for r in rows], [_title(r) for r in rows])
        below.minorticks_off()
        below.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        below.set_xlabel("share of the chunks that may be seen, logarithmic")
        above.legend(handles, TITLES.values(), loc="lower left", bbox_to_anchor=(0, 1), ncols=5, fontsize=8, handlelength=1.2)
        figure.savefig(target, transparent=True, bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)


def _line(axes: Any, rows: Sequence[dict[str, Any]], way: str, figure: str) -> Any:
    points = [(row["share"], row["ways"][way][figure]) for row in rows]
    return axes.plot(*zip(*points, strict=True), marker="o", ms=4, color=COLOURS[way], lw=2.4 if way == "served" else 1.4)[0]

"""Figures, table and plot of a load."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.incremental.plots import INK, STYLE
from bench.load import events, turns

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

RATIO = 3.0
COLUMNS = {"end_to_end": 1, "embed": 3, "search": 4, "server": 5}  # of a client's call
TITLES = {
    "end_to_end": "a request, at the client", "server": "the same, in the server", "embed": "of it the question's embedding",
    "search": "of it the search", "bare": "the bare query, directly on Postgres",
}  # fmt: skip
COLOURS = {"end_to_end": "#c9772b", "search": "#1f8a70", "bare": "#3f7fd0"}
Rows = list[list[float]]


def figures(clients: dict[str, Any], bare: dict[str, Any], story: events.Story, start: float) -> dict[str, Any]:
    """What was measured, as JSON; times are seconds since the load began."""
    asked: Rows = [call for call in clients["calls"] if _counts(call[0], start, served=True) and call[2] == 200]
    sent: Rows = [call for call in bare["calls"] if _counts(call[0], start, served=False)]
    mixed = events.mixed(clients["answers"], story)
    wrong = set(mixed)
    spans = [(m["from"], m["to"]) for m in story.moments]
    latency = _latency(asked, sent)
    return {
        "requests": len(clients["calls"]), "measured": len(asked), "bare_queries": len(sent),
        "seconds_of_all_clients": round(turns.SERVED * len({int((c[0] - start) // turns.PERIOD) for c in asked}), 0),
        "failed": len(clients["failures"]), "failures": clients["failures"][:5],
        "mixed": sum(int(call[6]) in wrong for call in clients["calls"]), "different_answers": len(clients["answers"]),
        "telling_answers": events.telling(clients["answers"], story),
        "mixed_examples": [clients["answers"][number] for number in mixed[:3]],
        "generations_that_answered": sorted({answer[0] for answer in clients["answers"]}),
        "moments": [{**m, "from": round(m["from"] - start, 2), "to": round(m["to"] - start, 2)} for m in story.moments],
        "changes": _changes(clients, start),
        "latency_ms": latency,
        "ratio": round(latency["search"]["p95"] / latency["bare"]["p95"], 2),
        "ratio_while_nothing_happened": _ratio(
            [c for c in asked if not _during(c[0], spans)], [c for c in sent if not _during(c[0], spans)]
        ),
        "ratio_while_something_happened": _ratio(
            [c for c in asked if _during(c[0], spans)], [c for c in sent if _during(c[0], spans)]
        ),
        "turns": _turns(asked, sent, start),
    }  # fmt: skip


def _counts(sent: float, start: float, *, served: bool) -> bool:
    return sent > start and turns.counts(sent, start) and turns.served(sent, start) == served


def _during(sent: float, spans: Sequence[tuple[float, float]]) -> bool:
    return any(first <= sent <= last for first, last in spans)


def _latency(asked: Rows, sent: Rows) -> dict[str, dict[str, float]]:
    found = {name: _percentiles([call[column] for call in asked]) for name, column in COLUMNS.items()}
    return {**found, "bare": _percentiles([call[1] for call in sent])}


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    return {f"p{p}": round(float(np.percentile(values, p)), 1) for p in (50, 95, 99)}


def _ratio(asked: Rows, sent: Rows) -> float | None:
    search, bare = _percentiles([call[COLUMNS["search"]] for call in asked]), _percentiles([call[1] for call in sent])
    return round(search["p95"] / bare["p95"], 2) if search and bare else None


def _changes(clients: dict[str, Any], start: float) -> list[dict[str, Any]]:
    """When answers began to come from another generation, as a client sees it."""
    calls = sorted(call for call in clients["calls"] if call[2] == 200)
    found: list[dict[str, Any]] = []
    for call in calls:
        generation = clients["answers"][int(call[6])][0]
        if not found or found[-1]["generation"] != generation:
            found.append({"second": round(call[0] + call[1] / 1000 - start, 2), "generation": generation})
    return found


def _turns(asked: Rows, sent: Rows, start: float) -> list[dict[str, Any]]:
    """Percentiles of each period."""
    last = int((max(call[0] for call in asked) - start) // turns.PERIOD)
    found = []
    for number in range(last + 1):
        first = start + number * turns.PERIOD
        within = [call for call in asked if 0 <= call[0] - first < turns.PERIOD]
        beside = [call for call in sent if 0 <= call[0] - first < turns.PERIOD]
        found.append(
            {"second": number * turns.PERIOD, "requests": len(within), "bare_queries": len(beside), **_latency(within, beside)}
        )
    return found


def write(out: Path) -> None:
    """OUT.md and OUT.svg from OUT.json."""
    result = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    text = (
        "# Under load\n\n"
        f"`{result['command']}`: {result['chunks']:,} chunks, all-MiniLM-L6-v2, {result['cpus']} cores that Postgres, the"
        f" server, the builds and the clients share (load of the machine {result['load_after']:.0f} at the end).\n\n"
        f"![percentiles over time]({out.name}.svg)\n\n"
    )
    out.with_suffix(".md").write_text(text + table(result), encoding="utf-8")
    plot(result, out.with_suffix(".svg"))


def table(result: dict[str, Any]) -> str:
    """Figures for people, with what they are held to."""
    lines = ["| milliseconds | p50 | p95 | p99 |", "|---|---|---|---|"]
    for name, title in TITLES.items():
        of = result["latency_ms"][name]
        lines.append(f"| {title} | {of['p50']} | {of['p95']} | {of['p99']} |")
    lines += ["", "| second | what happened |", "|---|---|"]
    lines += [f"| {m['from']:.0f} to {m['to']:.0f} | {m['name']}{_said(m['said'])} |" for m in result["moments"]]
    changes = ", ".join(f"{c['generation']} from second {c['second']:.1f}" for c in result["changes"])
    verdicts = {
        f"{result['failed']} of {result['requests']:,} requests failed": result["failed"] == 0,
        f"{result['mixed']} answers mix states of the index{_told(result)}": result["mixed"] == 0,
        f"p95 of the search is {result['ratio']} times that of the bare query (limit {RATIO:g})": result["ratio"] <= RATIO,
    }
    return "\n".join(
        [
            *lines, "", f"Answers came from generation {changes}.", "",
            f"Search to bare query, at the 95th percentile: {result['ratio_while_nothing_happened']} while nothing else"
            f" happened, {result['ratio_while_something_happened']} while the index was changed.", "",
            *(f"- {'pass' if holds else 'FAIL'}: {what}" for what, holds in verdicts.items()), "",
        ]
    )  # fmt: skip


def _told(result: dict[str, Any]) -> str:
    different, telling = result["different_answers"], result["telling_answers"]
    return f" ({different:,} different ones, of which {telling:,} do not fit every state)"


def _said(said: dict[str, Any]) -> str:
    if "plan" not in said:
        return f": to generation {said['generation']}, {said['seconds']} s in the database"
    chunks = said["chunks"]
    return (
        f": {said['plan']['changed']} documents changed, {chunks['embedded']:,} chunks embedded, {chunks['written']:,} written,"
        f" generation {said['generation']}"
    )


def plot(result: dict[str, Any], target: Path) -> None:
    """p50, p95 and p99 of each turn, with what happened to the index."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(8, 4))
        handles = []
        for name, colour in COLOURS.items():
            own = [turn for turn in result["turns"] if turn[name]]
            x = [turn["second"] + (turns.PERIOD - 1.5 if name == "bare" else turns.SERVED / 2) for turn in own]
            for percentile, style in (("p50", ":"), ("p95", "-"), ("p99", "--")):
                line = axes.plot(x, [turn[name][percentile] for turn in own], color=colour, ls=style, lw=1.6)[0]
                handles += [line] if percentile == "p95" else []
        for moment in result["moments"]:
            axes.axvspan(moment["from"], moment["to"], color=INK, alpha=0.12, lw=0)
            axes.text(moment["from"], 1, moment["name"], transform=axes.get_xaxis_transform(), fontsize=8, rotation=20)
        for change in result["changes"][1:]:
            axes.axvline(change["second"], color="#b2473e", lw=1.2)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_ylabel("milliseconds, logarithmic\n(p50 dotted, p95, p99 dashed)")
        axes.set_xlabel("seconds; grey: a command runs, red: another generation answers")
        titles = ["request", "its search", "bare query"]
        axes.legend(handles, titles, loc="lower left", bbox_to_anchor=(0, 1.12), ncols=3, fontsize=9, handlelength=1.2)
        figure.savefig(target, transparent=True, bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)

"""A report as one HTML page that needs nothing else: no network, no script."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.errors import BadConfiguration
from include.evaluation import plots
from include.evaluation.configuration import describe

if TYPE_CHECKING:
    from include.store.evaluations import Evaluation

TEMPLATE = Path(__file__).with_name("report.html.j2")
STYLE = Path(__file__).with_name("page.css")  # of all pages: each carries it, and needs nothing else
_HEADINGS = {
    "better": "The challenger is better", "worse": "The challenger is worse",
    "no difference": "No difference: the configuration stays", "too few": "Too few to tell: the configuration stays",
}  # fmt: skip


def write_page(path: str, evaluation: Evaluation, collection: str) -> None:
    """Write the page to a file.

    :raises BadConfiguration: it cannot be written there.
    """
    text = render(evaluation, collection)
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadConfiguration(f"--report {path}", error.strerror or str(error), "Name a file that can be written") from error


def render(evaluation: Evaluation, collection: str) -> str:
    """The page of a stored evaluation."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    report = {"comparison": None, "answers": None, "a_a": None} | evaluation.report
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    drawn = {name: _marked(Markup, drawing) for name, drawing in _plots(report).items()}
    against = (evaluation.configuration.get("against") or {}).get("settings", [])
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        style=Markup(STYLE.read_text(encoding="utf-8")),
        id=evaluation.id,
        collection=collection,
        name=evaluation.name,
        created_at=evaluation.created_at,
        generation=evaluation.generation_id,
        report=report,
        plots={"measures": None, "slices": None, "latency": None, "differences": None} | drawn,
        headline=_headline(report),
        against=describe(against),
        heading=_HEADINGS[report["comparison"]["verdict"]] if report["comparison"] else "",
        answer_rows=_answer_rows(report["answers"]),
        abstention_rows=_abstention_rows(report["answers"]),
        configuration=json.dumps(evaluation.configuration | {"passport": report.get("passport")}, indent=2, ensure_ascii=False),
    )


def _marked(mark: Any, drawing: Any) -> Any:
    """Our own drawings are not escaped."""
    return {key: mark(one) for key, one in drawing.items()} if isinstance(drawing, dict) else mark(drawing)


def _plots(report: dict[str, Any]) -> dict[str, Any]:
    if not report["measures"]:
        return {}
    first = next(iter(report["measures"]))
    compared = report["comparison"]
    curves = [("as it is", report["latency"]["curve"])]
    drawn: dict[str, Any] = {"measures": plots.measures_plot(report["measures"], compared["measures"] if compared else None)}
    if compared:
        drawn["differences"] = plots.difference_plot(compared["histogram"], first)
        curves.append(("challenger", compared["latency"]["curve"]))
    whole = report["measures"][first]["value"]
    tables = {key: table for key, table in report["slices"].items() if table}
    if tables:
        drawn["slices"] = {key: plots.slices_plot(table, key, first, whole) for key, table in tables.items()}
    drawn["latency"] = plots.latency_plot(curves)
    return drawn


def _headline(report: dict[str, Any]) -> list[tuple[str, str]]:
    figures = [(name, f"{value['value']:.3f}") for name, value in report["measures"].items()]
    if "warm" in report["latency"]:
        figures.append(("p95, warm", f"{report['latency']['warm']['p95_ms']:.0f} ms"))
    if report["answers"] and report["answers"]["f1"]:
        figures.append(("F1 of answers", f"{report['answers']['f1']['value']:.3f}"))
    return figures


def _answer_rows(answers: dict[str, Any] | None) -> list[tuple[str, dict[str, float]]]:
    if not answers:
        return []
    labels = {
        "exact_match": "exact match", "f1": "F1 of words", "contains": "right answer stands in it",
        "groundedness": "groundedness",
    }  # fmt: skip
    rows = [(label, answers[key]) for key, label in labels.items() if answers[key]]
    judged = answers["judge"]
    if judged and judged["right"]:
        rows.append((f"right by {judged['model']}, asked {judged['repeats']} times", judged["right"]))
    if judged and judged["agreement"]:
        rows.append(("agreement of the judge with itself", judged["agreement"]))
    return rows


def _abstention_rows(answers: dict[str, Any] | None) -> list[tuple[str, float | None]]:
    if not answers:
        return []
    found = answers["abstention"]
    return [
        (f"abstention, precision ({found['abstained']} abstained)", found["precision"]),
        (f"abstention, recall ({found['unanswerable']} without an answer)", found["recall"]),
        (f"needless abstention ({found['answerable']} with an answer)", found["needless"]),
    ]

"""The page of a trained model: what the gate decided and why, and what training and comparison look like.

A person reads it before a click promotes the model. What is written to the artifacts quotes no question and no document, for
`forget` does not reach files; the command line shows them from the database.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from include.evaluation import model_plots, plots
from include.evaluation.page import STYLE, TEMPLATE
from include.registry.gate_scores import CHALLENGER, CHALLENGER_PAIR

if TYPE_CHECKING:
    from include.config import Settings
    from include.store.model_runs import ModelRun
    from include.store.pool import Pool

SEARCH_WORDS = {
    "questions": "golden queries",
    "queries": "queries",
    "one": "A whole search",
    "many": "searches",
    "by": "Query by query",
}
LLM_WORDS = {
    "questions": "questions",
    "queries": "questions",
    "one": "A whole answer",
    "many": "answers",
    "by": "Question by question",
}
MODEL_TEMPLATE = TEMPLATE.with_name("model.html.j2")
_OUTSIDE = {
    "scores", "told", "slices", "comparison", "alternatives", "matrix", "a_a", "sides", "latency", "questions", "guarded",
    "judge", "held_out",
}  # fmt: skip


def publish_model_page(settings: Settings, pool: Pool, run_key: str) -> str:
    """Write the page of a training to the artifacts; returns where it lies, without credentials.

    :raises Transient: the store is full, or does not answer.
    """
    from include.store import collections, model_runs

    with pool.connection() as connection:
        run = model_runs.by_key(connection, run_key)
        name = collections.collection_name(connection, run.collection_id)
    return write_model_page(_page_url(settings, run, name), run, name)


def model_page_path(settings: Settings, run: ModelRun, collection: str) -> str:
    """Where the page of a training lies, whether it was written yet or not; for people, without credentials of the URL."""
    from include.registry.stores import shown_url

    return shown_url(_page_url(settings, run, collection))


def _page_url(settings: Settings, run: ModelRun, collection: str) -> str:
    from include.registry.stores import artifacts_url

    return f"{artifacts_url(settings)}/reports/{run.family}/{collection}/{run.id}.html"


def write_model_page(path: str, run: ModelRun, collection: str, *, quotes: bool = False) -> str:
    """Write the page.

    :param path: a file, or any fsspec URL.
    :param quotes: with the questions that changed most and their documents: not for a file that is kept.
    :return: where it lies, without credentials.
    """
    from include.registry.stores import write_page

    return write_page(path, render_model(run, collection, quotes=quotes))


def render_model(run: ModelRun, collection: str, *, quotes: bool = False) -> str:
    """The page as HTML that needs nothing else: no network, no script."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    evaluation = {"matrix": None, "alternatives": None, "guarded": None, "judge": None, "held_out": None} | (
        run.evaluation or {}
    )
    gate = run.gate
    compared = "comparison" in evaluation
    drawn = {name: Markup(one) for name, one in _plots(run, evaluation).items()}
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(MODEL_TEMPLATE.read_text(encoding="utf-8")).render(
        style=Markup(STYLE.read_text(encoding="utf-8")),
        title=f"{'LLM' if run.family == 'llm' else run.family.capitalize()} of {collection}",
        run=run,
        gate=gate,
        said=_said(gate),
        evaluation=evaluation,
        compared=compared,
        plots=dict.fromkeys(("versus", "differences", "slices", "latency", "loss", "dev")) | drawn,
        headline=_headline(run, evaluation),
        unjudged=_unjudged(gate, evaluation),
        tokens=max((row.get("tokens") or 0 for row in evaluation["alternatives"] or ()), default=0),
        words=LLM_WORDS if run.family == "llm" else SEARCH_WORDS,
        merge=run.training.get("merge") if run.family == "llm" else None,
        facts=_facts(run),
        told=[("Lost", evaluation["told"]["lost"]), ("Won", evaluation["told"]["won"])] if quotes and compared else [],
        manifest=json.dumps(_manifest(run), indent=2, ensure_ascii=False, default=str),
    )


def _said(gate: dict[str, Any] | None) -> list[str]:
    """The reasons that are no refusals, which stand above them with what would have to change."""
    refused = [one["why"] for one in gate["refused_because"]] if gate else []
    return [reason for reason in gate["reasons"] if not any(map(reason.startswith, refused))] if gate else []


def _plots(run: ModelRun, evaluation: dict[str, Any]) -> dict[str, str]:
    drawn = _training_plots(run.training)
    if "comparison" not in evaluation:
        return drawn
    compared, measure = evaluation["comparison"], evaluation["measure"]
    limit = run.gate["rule"]["max_slice_loss"] if run.gate else None
    whole = compared["measures"][measure]
    slices = [
        (f"{key} = {value}", one)
        for key, values in compared["slices"].items()
        for value, one in sorted(values.items(), key=lambda item: item[1]["mean"])
        if one["outcome"] != "too few"
    ]
    latency = evaluation["latency"]
    labels = {name: f"{name.replace('_', ' ')}" for name in latency["sides"]}
    return drawn | {
        "versus": model_plots.versus_plot(evaluation["champion"]["measures"], evaluation["challenger"]["measures"]),
        "differences": plots.difference_plot(compared["histogram"], measure),
        "slices": model_plots.forest_plot([("all", whole), *slices], measure=measure, limit=limit) if slices else "",
        "latency": model_plots.budget_plot(latency["sides"], latency["budget_ms"], labels),
    }


def _training_plots(training: dict[str, Any]) -> dict[str, str]:
    drawn = {}
    loss = [(one["step"], one["loss"]) for one in training.get("loss") or ()]
    if len(loss) > 1:
        drawn["loss"] = model_plots.loss_plot(loss)
    dev = training.get("dev")
    if isinstance(dev, list) and dev:
        measure = next(name for name in dev[0] if name.startswith("ndcg") or name == "loss")
        drawn["dev"] = model_plots.dev_plot(
            [(one["step"], one[measure]) for one in dev], measure=measure,
            before=(training.get("baseline") or {}).get(measure), best=(training.get("best") or {}).get("step"),
        )  # fmt: skip
    elif isinstance(dev, dict) and dev.get("curve"):
        measure = next(name for name in dev["curve"][0] if name.startswith("ndcg"))
        curve = [(one["rerank_weight"], one[measure]) for one in dev["curve"]]
        drawn["dev"] = model_plots.weight_plot(curve, dev["rerank_weight"], measure=measure)
    return drawn


def _headline(run: ModelRun, evaluation: dict[str, Any]) -> list[tuple[str, str]]:
    figures: list[tuple[str, str]] = []
    if "comparison" in evaluation:
        one = evaluation["comparison"]["measures"][evaluation["measure"]]
        timed = evaluation["latency"]["sides"]
        figures += [
            (f"{evaluation['measure']}, champion", f"{one['champion']:.3f}"),
            (f"{evaluation['measure']}, challenger", f"{one['challenger']:.3f}"),
            ("difference", f"{one['mean']:+.3f}"),
            ("p95 under load", f"{(timed.get(CHALLENGER_PAIR) or timed[CHALLENGER])['warm']['p95_ms']:,.0f} ms"),
        ]
    if run.training.get("seconds"):
        figures.append(("trained for", f"{run.training['seconds'] / 60:,.1f} min"))
    if run.cost is not None:
        figures.append(("cost", f"{run.cost:,.2f}"))
    return figures


def _unjudged(gate: dict[str, Any] | None, evaluation: dict[str, Any]) -> str:
    least = gate["rule"]["min_slice_queries"] if gate else 0
    few = [
        f"{key} = {value} ({len(positions)})"
        for key, values in (evaluation.get("slices") or {}).items()
        for value, positions in values.items()
        if len(positions) < least
    ]
    return ", ".join(few[:10]) + (f" and {len(few) - 10} more" if len(few) > 10 else "")


def _facts(run: ModelRun) -> list[tuple[str, str]]:
    training = run.training
    known = {
        "pairs": training.get("pairs"),
        "conversations": training.get("conversations"),
        "tokens a second": training.get("tokens_per_second"),
        "steps": run.step or None,
        "seconds of training": training.get("seconds"),
        "samples a second": training.get("samples_per_second"),
        "ended by": training.get("finished"),
        "resumed from step": training.get("resumed_from"),
        "attempts": run.attempts or None,
        "GPU seconds": round(run.gpu_seconds, 1) or None,
    }
    return [(label, f"{value:,}" if isinstance(value, int | float) else str(value)) for label, value in known.items() if value]


def _manifest(run: ModelRun) -> dict[str, Any]:
    evaluation = {key: value for key, value in (run.evaluation or {}).items() if key not in _OUTSIDE}
    return {
        "run_key": run.run_key, "family": run.family, "base": run.base, "base_fingerprint": run.base_fingerprint,
        "fingerprint": run.fingerprint, "artifact": run.artifact, "version": run.version, "dataset_id": run.dataset_id,
        "code_version": run.code_version, "arguments": run.arguments, "hardware": run.hardware, "evaluation": evaluation,
    }  # fmt: skip

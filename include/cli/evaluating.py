"""`evaluate` and `fit`: how good the answers are, and what makes them better."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, get_args

from include.cli.searching import positive
from include.collection_file import Mode
from include.errors import BadConfiguration, BadData

if TYPE_CHECKING:
    from include.config import Settings
    from include.evaluation.dense_weight import Fit
    from include.output import Output
    from include.store.evaluations import Evaluation

MAX_CLIENTS = 64


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands."""
    parser = commands.add_parser("evaluate", parents=[common], help="score the index against judged queries")
    parser.add_argument("name", help="collection")
    _files(parser)
    parser.add_argument("--mode", choices=get_args(Mode), help="how to search (default: as the collection file says)")
    parser.add_argument(
        "--rerank", action=argparse.BooleanOptionalAction, default=None, help="demand or leave out the second stage"
    )
    parser.add_argument("--top-k", type=positive, default=10, metavar="N", help="cut-off of the measures (default 10)")
    parser.add_argument("--slice", action="append", default=[], metavar="KEY", help="a table by this metadata of the queries")
    parser.add_argument(
        "--against",
        nargs="+",
        metavar="KEY=VALUE",
        help="compare with other settings: mode=dense dense_weight=0.3",
    )
    parser.add_argument("--clients", type=_clients, default=1, metavar="N", help="queries asked at once (default 1)")
    parser.add_argument("--answers", action="store_true", help="have them answered in words too, and score that")
    parser.add_argument("--repeats", type=positive, default=3, metavar="N", help="how often an LLM judges each answer (3)")
    parser.add_argument("--report", metavar="FILE", help="write a page with plots (.html)")
    parser.add_argument("--show", type=int, metavar="ID", help="an earlier evaluation instead of a new one")
    parser.set_defaults(run=run)
    fitting = commands.add_parser("fit", parents=[common], help="find how much meaning should count beside words")
    fitting.add_argument("name", help="collection")
    _files(fitting)
    fitting.set_defaults(run=run_fit)


def _files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--queries", metavar="FILE", help='lines of {"id", "text"}, plain or .gz (default: golden queries)')
    parser.add_argument("--qrels", metavar="FILE", help="tab-separated query-id, corpus-id, score")


def _clients(text: str) -> int:
    value = int(text)
    if not 1 <= value <= MAX_CLIENTS:
        raise ValueError(text)
    return value


def run(args: argparse.Namespace, settings: Settings, output: Output) -> None:
    """Run `evaluate`."""
    from include.store.pool import open_pool

    _together(args)
    with output.progress() as progress, open_pool(settings, max_size=args.clients + 2) as pool:
        if args.show is not None:
            found = _stored(pool, args.name, args.show)
        else:
            from include.evaluation.evaluate import Options, evaluate

            options = Options(
                args.queries, args.qrels, args.mode, args.rerank, args.top_k, tuple(args.slice),
                None if args.against is None else tuple(args.against), args.clients, args.answers, args.repeats,
            )  # fmt: skip
            found = evaluate(settings, pool, args.name, options, progress=progress)
    if args.report:
        from include.evaluation.page import write_page

        write_page(args.report, found, args.name)
    output.result(as_result(found))
    _say(output, found)
    if args.report:
        output.line(f"the page is {args.report}")


def run_fit(args: argparse.Namespace, settings: Settings, output: Output) -> None:
    """Run `fit`."""
    from include.evaluation.dense_weight_run import fit_collection
    from include.store.pool import open_pool

    _together(args)
    with output.progress() as progress, open_pool(settings) as pool:
        cases, found = fit_collection(settings, pool, args.name, args.queries, args.qrels, progress=progress)
    output.result({"collection": args.name, **found.as_dict(), "setting": setting(found)})
    output.line(cases.describe())
    output.table(("dense_weight", "ndcg@10"), [(f"{w:.2f}" + _mark(found, w), f"{score:.4f}") for w, score in found.curve])
    output.line(f"fitted on one half, scored on the other, both ways: {found.held_out:.4f}; as it is set: {found.present:.4f}")
    output.line(f"the gain: {found.gain.reason}")
    if found.gain.promotes:
        output.line("put into the collection file:")
        output.line(setting(found))
    else:
        output.line(f"leave retrieval.dense_weight at {found.present_weight:g}")


def setting(found: Fit) -> str:
    """What to write into the collection file."""
    return f"retrieval: {{dense_weight: {found.recommended:g}}}"


def _mark(found: Fit, weight: float) -> str:
    marks = [mark for mark, at in (("set", found.present_weight), ("fitted", found.weight)) if weight == at]
    return f"  ← {', '.join(marks)}" if marks else ""


def as_result(found: Evaluation) -> dict[str, Any]:
    """The JSON result: the figures of the contract first, then the report without each query's scores."""
    report = {key: value for key, value in found.report.items() if key not in ("measures", "scores")}
    measures: dict[str, Any] = found.report["measures"]
    return {
        "queries": report["questions"]["queries"],
        **{name: value["value"] for name, value in measures.items()},
        **report["latency"].get("warm", {}),
        "evaluation": found.id,
        "generation": found.generation_id,
        "configuration": found.configuration,
        "intervals": {name: [value["low"], value["high"]] for name, value in measures.items()},
        **report,
    }


def _together(args: argparse.Namespace) -> None:
    if bool(args.queries) != bool(args.qrels):
        raise BadConfiguration(
            args.command, "--queries and --qrels belong together", "Give both files, or none to ask the golden queries"
        )


def _stored(pool: Any, name: str, key: int) -> Evaluation:
    from include.store import collections, evaluations

    with pool.connection() as connection:
        found = evaluations.load(connection, collections.collection_id(connection, name), key)
    if found is None:
        raise BadData(f"evaluation {key} of {name}", "there is none", f"Make one with: ragworks evaluate {name}")
    return found


def _say(output: Output, found: Evaluation) -> None:
    report = found.report
    questions = report["questions"]
    kind = "golden queries" if questions["origin"] == "golden" else "judged queries"
    left = f"; {questions['left_out']} left out: no passage that answers them is in the index" if questions["left_out"] else ""
    output.line(f"evaluation {found.id}: {questions['queries']} {kind}, generation {found.generation_id}, {found.name}{left}")
    rows = [(name, f"{v['value']:.4f}", _interval(v)) for name, v in report["measures"].items()]
    warm = report["latency"].get("warm", {})
    output.table(("measure", "value", "95 % interval"), [*rows, *((name, f"{ms:g}", "") for name, ms in warm.items())])
    for key, table in report["slices"].items():
        first = next(iter(report["measures"]))
        lines = [(value, one["queries"], f"{one[first]:.4f}", _interval(one)) for value, one in table.items()]
        output.table((key, "queries", first, "95 % interval"), lines)
    if "comparison" in report:
        _say_comparison(output, report)
    if "answers" in report:
        _say_answers(output, report["answers"])


def _say_comparison(output: Output, report: dict[str, Any]) -> None:
    rows = [
        (name, f"{one['champion']:.4f}", f"{one['challenger']:.4f}", _interval(one), f"{one['p']:.3f}", one["outcome"])
        for name, one in report["comparison"]["measures"].items()
    ]
    output.table(("measure", "as it is", "challenger", "difference, 95 %", "p", "verdict"), rows)
    output.line(report["comparison"]["summary"])
    output.line(f"control (the same configuration twice): {report['a_a']['reason']}")


def _say_answers(output: Output, answers: dict[str, Any]) -> None:
    scores = [(key, answers[key]) for key in ("exact_match", "f1", "contains", "groundedness") if answers[key]]
    if answers["judge"] and answers["judge"]["right"]:
        scores.append(("judged right", answers["judge"]["right"]))
    rows = [(name, f"{one['value']:.4f}", _interval(one)) for name, one in scores]
    output.table(("answers", "value", "95 % interval"), rows)
    found = answers["abstention"]
    output.line(
        f"abstained from {found['abstained']} of {answers['questions']} questions, {found['unanswerable']} of which have no"
        f" answer: precision {found['precision']}, recall {found['recall']}"
    )


def _interval(one: dict[str, Any]) -> str:
    return "" if one["low"] is None else f"{one['low']:.4f} to {one['high']:.4f}"

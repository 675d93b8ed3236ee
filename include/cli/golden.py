"""`golden`: import, list and remove golden queries, and make them of what users said."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from include.errors import BadConfiguration

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from include.config import Settings
    from include.output import Output
    from include.store.golden import GoldenQuery, GoldenSpan


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = commands.add_parser("golden", parents=[common], help="golden queries: what a new generation is judged by")
    parser.add_argument("name", help="collection")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--import", dest="file", metavar="FILE", help='lines of {"query", "relevant": [{"document"}]}')
    source.add_argument("--from-feedback", action="store_true", help="make them of accepted feedback that names a document")
    source.add_argument("--queries", metavar="FILE", help='lines of {"id", "text"}, together with --qrels')
    parser.add_argument("--qrels", metavar="FILE", help="tab-separated query-id, corpus-id, score")
    parser.add_argument("--clear", action="store_true", help="remove what is there, before the import if there is one")
    parser.add_argument("--list", dest="listed", action="store_true", help="show every query")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings, output: Output) -> None:
    """Run the command; import and clear are one transaction."""
    from include.evaluation.golden import from_feedback
    from include.store import collections, golden, kept_out
    from include.store.pool import open_pool

    queries = _queries(args)
    with output.progress() as progress, open_pool(settings) as pool, pool.connection() as connection:
        collection = collections.collection_id(connection, args.name)
        kept_out.hold(connection, {collection: ()})
        removed = golden.delete_all(connection, collection) if args.clear else 0
        progress.step("import golden queries", None)
        kept = 0
        if args.from_feedback:
            queries, kept = from_feedback(connection, collection)
        imported = golden.save(connection, collection, queries) if queries else 0
        counts = golden.count(connection, collection)
        shown = [_as_line(query) for query in golden.golden_queries(connection, collection)] if args.listed else None
    result = {"collection": args.name, "imported": imported, "removed": removed, **asdict(counts)}
    if args.from_feedback:
        result["kept"] = kept
    output.result(result if shown is None else {**result, "golden": shown})
    if shown:
        output.table(("query", "origin", "answered by"), [_row(line) for line in shown])
    _say(output, args, result)


def _queries(args: argparse.Namespace) -> Iterable[GoldenQuery] | None:
    from include.evaluation.golden import read_golden, read_pair

    if args.file:
        return read_golden(args.file)
    if bool(args.queries) != bool(args.qrels):
        raise BadConfiguration("golden", "--queries and --qrels belong together", "Give both files, or --import FILE")
    return read_pair(args.queries, args.qrels) if args.queries else None


def _say(output: Output, args: argparse.Namespace, result: dict[str, Any]) -> None:
    if args.clear:
        output.line(f"{result['removed']} golden queries removed")
    if args.file or args.queries:
        output.line(f"{result['imported']} golden queries imported")
    if args.from_feedback:
        output.line(f"{result['imported']} golden queries made of accepted feedback")
        if result["kept"]:
            output.line(f"{result['kept']} more were golden already by other means, and stay as they are")
    output.line(f"{args.name} has {result['queries']} golden queries with answers in {result['documents']} documents")
    if result["unanswerable"]:
        output.line(f"{result['unanswerable']} of them no document answers: only answers in words are judged by these")
    if result["missing"]:
        output.line(
            f"warning: {result['missing']} of these documents are not in the collection;"
            " a query that has no other answer is not asked"
        )


def _as_line(query: GoldenQuery) -> dict[str, Any]:
    """As a line of the file that --import reads."""
    line = {"query": query.query, "relevant": [_span(span) for span in query.spans], "origin": query.origin}
    others = {"metadata": query.metadata or None, "answer": query.answer, "answerable": None if query.answerable else False}
    return line | {key: value for key, value in others.items() if value is not None}


def _span(span: GoldenSpan) -> dict[str, Any]:
    return {key: value for key, value in asdict(span).items() if value is not None}


def _row(line: dict[str, Any]) -> tuple[str, str, str]:
    answers = [s["document"] + (f" [{s['start']}:{s['end']}]" if "start" in s else "") for s in line["relevant"]]
    return line["query"], line["origin"], ", ".join(answers) or "no document"

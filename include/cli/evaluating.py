"""`evaluate`: score the live index against judged queries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include.cli.searching import positive

if TYPE_CHECKING:
    import argparse

    from include.cli.output import Output
    from include.config import Settings


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = commands.add_parser("evaluate", parents=[common], help="score the index against judged queries")
    parser.add_argument("name", help="collection")
    parser.add_argument("--queries", required=True, metavar="FILE", help='lines of {"id", "text"}, plain or .gz')
    parser.add_argument("--qrels", required=True, metavar="FILE", help="tab-separated query-id, corpus-id, score")
    parser.add_argument("--mode", choices=("dense",), default="dense", help="how to search (hybrid and lexical come later)")
    parser.add_argument("--top-k", type=positive, default=10, metavar="N", help="cut-off of the measures (default 10)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings, output: Output) -> None:
    """Run the command."""
    from include.evaluation.evaluate import evaluate
    from include.evaluation.judgements import read_qrels, read_queries
    from include.retrieval.searcher import Searcher
    from include.store.pool import open_pool

    queries, qrels = read_queries(args.queries), read_qrels(args.qrels)
    with output.progress() as progress, open_pool(settings) as pool:
        result = evaluate(Searcher(settings, pool, args.name), queries, qrels, top_k=args.top_k, progress=progress)
    output.result(result)
    output.table(("measure", "value"), result.items())

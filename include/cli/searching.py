"""`search`: ask the live index."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from include.errors import BadConfiguration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.config import Settings
    from include.output import Output
    from include.store.search import Hit


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = commands.add_parser("search", parents=[common], help="ask the live index")
    parser.add_argument("name", help="collection")
    parser.add_argument("query", help="a question or some words")
    parser.add_argument("--top-k", type=positive, default=10, metavar="N", help="how many chunks (default 10)")
    add_how(parser)
    parser.add_argument(
        "--filter", metavar="JSON", help='metadata that must match, e.g. \'{"type": "pdf"}\'; a list means any of'
    )
    add_principals(parser)
    parser.add_argument("--all", action="store_true", dest="copies", help="show copies too, not only the best of each passage")
    parser.set_defaults(run=run)


def add_how(parser: argparse.ArgumentParser) -> None:
    """The options that say how to search, which several commands share."""
    parser.add_argument(
        "--mode",
        choices=("hybrid", "dense", "lexical"),
        help="by meaning and words, by meaning, by words (default: retrieval.mode)",
    )
    parser.add_argument(
        "--rerank",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="with or without the second stage (default: as set)",
    )


def add_principals(parser: argparse.ArgumentParser) -> None:
    """For whom to search."""
    parser.add_argument(
        "--principal", action="append", default=[], dest="principals", metavar="P",
        help="for whom: also shows documents whose ACL names P; may be repeated",
    )  # fmt: skip


def positive(text: str) -> int:
    """An argument that counts things: 1 to 10,000."""
    value = int(text)
    if not 1 <= value <= 10_000:
        raise ValueError(text)
    return value


def run(args: argparse.Namespace, settings: Settings, output: Output) -> None:
    """Run the command."""
    from include.retrieval.query import Query
    from include.retrieval.searcher import Searcher
    from include.store.pool import open_pool

    filters = parse_filter(args.filter) or {}
    query = Query(args.query, args.top_k, args.mode, filters, args.principals, args.rerank, args.copies)
    with open_pool(settings) as pool:
        started = time.monotonic()
        found = Searcher(settings, pool, args.name).find(query)
        seconds = round(time.monotonic() - started, 3)
    output.result({"results": [as_result(hit) for hit in found.hits], "passport": found.passport, "seconds": seconds})
    show_hits(output, found.hits)
    if "note" in found.passport:
        output.line(f"searched {found.passport['note']}")
    if not found.hits:
        output.line("nothing found" + (f" with filter {args.filter}" if args.filter else ""))


def as_result(hit: Hit) -> dict[str, Any]:
    """A hit as JSON has it; ``duplicates`` only when there are some."""
    result = asdict(hit)
    del result["content_hash"], result["run"]
    if not hit.duplicates:
        del result["duplicates"]
    return result


def show_hits(output: Output, hits: Sequence[Hit]) -> None:
    """Document, span, score and text of each chunk found."""
    for rank, hit in enumerate(hits, 1):
        headings = " › ".join(hit.metadata.get("headings", []))
        output.line(
            f"{rank:2}. {hit.score:.3f}  {hit.document} [{hit.start}:{hit.end}]" + (f"  {headings}" if headings else "")
        )
        output.line("    " + _snippet(hit.text))
        if hit.duplicates:
            output.line("    also in: " + _places(hit))


def _places(hit: Hit, shown: int = 5) -> str:
    """The first few other places of a passage."""
    places = [f"{d.document} [{d.start}:{d.end}]" for d in hit.duplicates]
    rest = len(places) - shown
    return ", ".join(places[:shown]) + (f" and {rest} more" if rest > 0 else "")


def parse_filter(text: str | None) -> dict[str, Any] | None:
    """The JSON of --filter.

    :raises BadConfiguration: not a JSON object.
    """
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise BadConfiguration("--filter", f"not valid JSON ({error})", """Write --filter '{"key": "value"}'""") from error
    if not isinstance(value, dict):
        raise BadConfiguration("--filter", "not a JSON object", """Write --filter '{"key": "value"}'""")
    return value


def _snippet(text: str, width: int = 300) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"

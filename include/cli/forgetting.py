"""`forget`: erase a document wherever it left a trace, and keep it out."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from include.errors import RagworksError

if TYPE_CHECKING:
    import argparse

    from include.config import Settings
    from include.indexing.erasing import Erasure
    from include.output import Output
    from include.store.pool import Connection

SHOWN = 10  # documents named for a person; --json has them all


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = commands.add_parser("forget", parents=[common], help="erase a document everywhere, and keep it out")
    parser.add_argument("name", help="collection")
    parser.add_argument("document", help="its uri, exactly as `export` and `search` show it")
    parser.add_argument("--reason", metavar="TEXT", help="kept with the hash of the uri, for whoever asks later; name nobody")
    parser.add_argument("--undo", action="store_true", help="let it in again at the next run; nothing comes back by itself")
    parser.add_argument("--rewrite", action="store_true", help="write the tables anew: not even freed space holds its bytes")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.set_defaults(run=forget)


def forget(args: argparse.Namespace, settings: Settings, output: Output) -> None:
    """Erase a document, or let it in again."""
    from include.indexing.erasing import erase_document
    from include.store import forgotten
    from include.store.pool import open_pool

    started = time.monotonic()
    with open_pool(settings) as pool:
        with pool.connection() as connection:
            collection = _collection(connection, settings, args.name)
            if args.undo:
                undone = forgotten.restore(connection, collection, args.document)
                _say_undone(output, args, undone, started)
                return
        _confirm(args, output)
        with output.progress() as progress:
            erasure = erase_document(
                pool, collection, args.document, reason=args.reason, rewrite=args.rewrite, progress=progress
            )
    seconds = round(time.monotonic() - started, 3)
    output.result({"collection": args.name, "document": args.document, **asdict(erasure), "seconds": seconds})
    for line in _lines(args.name, erasure):
        output.line(line)


def _collection(connection: Connection, settings: Settings, name: str) -> int:
    """The id; one that was never indexed must have a file: a document can be kept out before the first run."""
    from include.collection_file import collection_names
    from include.store import collections

    if name in collection_names(settings):
        return collections.ensure_collection(connection, name)
    return collections.collection_id(connection, name)


def _confirm(args: argparse.Namespace, output: Output) -> None:
    if args.yes or output.as_json or not sys.stdin.isatty():
        return
    print(f"Erase {args.document} from {args.name} for good? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise RagworksError("nothing was forgotten", "it was not confirmed", "Answer y, or give --yes")


def _say_undone(output: Output, args: argparse.Namespace, undone: bool, started: float) -> None:
    seconds = round(time.monotonic() - started, 3)
    output.result({"collection": args.name, "document": args.document, "undone": undone, "seconds": seconds})
    output.line("it may come in again: run the index" if undone else "it was not forgotten: nothing to undo")


def _lines(name: str, erasure: Erasure) -> list[str]:
    """The result for a person."""
    rows = ", ".join(f"{count} in {table}" for table, count in erasure.erased.items())
    lines = [f"erased: {rows}" if rows else f"nothing of it was in {name}; it is kept out if it comes"]
    if erasure.shared_with:
        others = ", ".join(erasure.shared_with[:SHOWN])
        more = len(erasure.shared_with) - SHOWN
        lines.append(f"its text stays, other documents have it too: {others}" + (f" and {more} more" if more > 0 else ""))
    lines.append(f"models trained on it: {', '.join(erasure.models) or 'none'}")
    if erasure.not_vacuumed:
        lines.append(
            f"still in use, so space was not taken back: {', '.join(erasure.not_vacuumed)}. Run the same command again later"
        )
    return lines

"""`duplicates`: live documents that are near-identical, so that somebody can clean up the source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from include.config import Settings
    from include.output import Output
    from include.retrieval.duplicates import Copies

SHOWN_CLUSTERS, SHOWN_DOCUMENTS = 20, 10


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = commands.add_parser("duplicates", parents=[common], help="live documents that are near-identical")
    parser.add_argument("name", help="collection")
    parser.add_argument(
        "--threshold", type=share, metavar="T", help="similarity from which two count, 0.5 to 1 (default: the collection's)"
    )
    parser.set_defaults(run=run)


def share(text: str) -> float:
    """An argument from 0.5 to 1."""
    value = float(text)
    if not 0.5 <= value <= 1:
        raise ValueError(text)
    return value


def run(args: argparse.Namespace, settings: Settings, output: Output) -> None:
    """Run the command."""
    from include.retrieval.duplicates import find_copies
    from include.store import collections, generations, signatures
    from include.store.pool import open_pool

    threshold = args.threshold or configured_threshold(settings, args.name)
    with open_pool(settings) as pool, pool.connection() as connection, output.progress() as progress:
        collection = collections.collection_id(connection, args.name)
        live = generations.require_live(connection, collection, args.name)
        found = find_copies(connection, live, threshold, progress)
        unsigned = signatures.count_unsigned(connection, collection)
    documents = sum(len(c.documents) for c in found)
    output.result(
        {
            "collection": args.name, "generation": live.id, "threshold": threshold, "documents": documents,
            "not_compared": unsigned, "clusters": [_as_json(c) for c in found],
        }
    )  # fmt: skip
    _show(output, found)
    output.line(f"{documents} documents in {len(found)} clusters at a similarity of {threshold:g} and more")
    if unsigned:
        output.line(
            f"{unsigned} texts have no signature yet and count only where identical: set near_duplicates.threshold,"
            f" then run: ragworks index {args.name}"
        )


def configured_threshold(settings: Settings, name: str) -> float:
    """The collection's threshold, or the default where it is off or the file is gone."""
    from include.collection_file import NearDuplicates, load_collection
    from include.errors import BadConfiguration

    default = NearDuplicates().threshold or 1.0
    try:
        return load_collection(settings, name).near_duplicates.threshold or default
    except BadConfiguration:
        return default


def _as_json(copies: Copies) -> dict[str, Any]:
    return {
        "size": len(copies.documents),
        "documents": [{"document": uri, "similarity": similarity} for uri, similarity in copies.documents],
    }


def _show(output: Output, found: list[Copies]) -> None:
    for number, copies in enumerate(found[:SHOWN_CLUSTERS], 1):
        size = len(copies.documents)
        more = f", the first {SHOWN_DOCUMENTS}" if size > SHOWN_DOCUMENTS else ""
        rows = [(f"{similarity:.2f}", uri) for uri, similarity in copies.documents[:SHOWN_DOCUMENTS]]
        output.table(("similarity", "document"), rows, title=f"{number}. {size} documents{more}")
    if len(found) > SHOWN_CLUSTERS:
        output.line(f"{len(found) - SHOWN_CLUSTERS} more clusters: --json shows all")

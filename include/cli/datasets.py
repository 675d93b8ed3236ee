"""`dataset`: make, look at, correct and check what models are trained on."""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING, Any

from include.cli.fields import add_fields, given_fields

if TYPE_CHECKING:
    import argparse

    from include.cli.output import Output
    from include.config import Settings
    from include.store.datasets import Dataset, Pair
    from include.store.pool import Connection, Pool

FIELDS = "data_"  # before the names of the dataset's options among the arguments
SHOWN, SNIPPET = 8, 90  # pairs of each side that are shown, and characters of their texts


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command, with an option for each field of a dataset."""
    from include.datasets.options import DatasetOptions

    parser = commands.add_parser(
        "dataset", parents=[common], help="what models are trained on: make it, look at it, correct it"
    )
    parser.add_argument("collection", metavar="NAME", help="collection")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--build", action="store_true", help="make one, and check it")
    action.add_argument("--list", dest="listed", action="store_true", help="all datasets of the collection (the default)")
    action.add_argument("--show", type=int, metavar="ID", help="one of them: counts, checks, some pairs")
    action.add_argument("--check", type=int, metavar="ID", help="check one again")
    action.add_argument("--export", metavar="FILE", help="write its rows as JSON lines, .gz if the name ends so")
    action.add_argument("--import", dest="imported", metavar="FILE", help="save corrected rows as a new version, and check it")
    parser.add_argument("--id", type=int, metavar="ID", help="which one --export writes (the newest of --name that is sound)")
    add_fields(parser.add_argument_group("with --build"), DatasetOptions, dest=FIELDS)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings, output: Output) -> None:
    """Run the command."""
    from include.store import collections
    from include.store.pool import open_pool

    with open_pool(settings) as pool:
        with pool.connection() as connection:
            collection = collections.collection_id(connection, args.collection)
        if args.build:
            _build(args, settings, pool, output)
        elif args.imported:
            _import(args, pool, collection, output)
        elif args.check is not None:
            _say(output, args.collection, pool, _checked(pool, _one(pool, collection, args.check), output))
        elif args.export:
            _export(args, pool, collection, output)
        elif args.show is not None:
            _show(args, pool, _one(pool, collection, args.show), output)
        else:
            _list(args, pool, collection, output)


def _build(args: argparse.Namespace, settings: Settings, pool: Pool, output: Output) -> None:
    from include.datasets.build import build_dataset
    from include.datasets.options import DatasetOptions
    from include.training.arguments import checked

    started = time.monotonic()
    options = checked(DatasetOptions, given_fields(args, DatasetOptions, dest=FIELDS))
    with output.progress() as progress:
        made = build_dataset(settings, pool, args.collection, options, progress=progress)
    _say_counts(output, made)
    _say(output, args.collection, pool, _checked(pool, made, output), seconds=time.monotonic() - started)


def _import(args: argparse.Namespace, pool: Pool, collection: int, output: Output) -> None:
    from include.datasets.correcting import import_dataset

    with output.progress() as progress:
        made = import_dataset(pool, collection, args.imported, name=args.data_name, progress=progress)
    if made.parent_id is not None:
        output.line(f"made of dataset {made.parent_id}")
    _say(output, args.collection, pool, _checked(pool, made, output))


def _export(args: argparse.Namespace, pool: Pool, collection: int, output: Output) -> None:
    from include.datasets.correcting import export_dataset
    from include.errors import BadData
    from include.store import datasets

    name = args.data_name or "training"
    if args.id is not None:
        chosen: Dataset | None = _one(pool, collection, args.id)
    else:
        with pool.connection() as connection:
            chosen = datasets.latest(connection, collection, name)
    if chosen is None:
        fix = f"Make one with: ragworks dataset {args.collection} --build, or name one with --id"
        raise BadData(f"{args.collection} has no sound dataset {name!r}", "", fix)
    rows = export_dataset(pool, chosen, args.export)
    output.result({"collection": args.collection, "dataset": chosen.id, "file": args.export, "rows": rows})
    output.line(f"{rows} rows of dataset {chosen.id} ({chosen.name} {chosen.version}) written to {args.export}")
    output.line(f"corrected, they come back with: ragworks dataset {args.collection} --import {args.export}")


def _show(args: argparse.Namespace, pool: Pool, shown: Dataset, output: Output) -> None:
    from include.store import datasets

    with pool.connection() as connection:
        sizes = datasets.sizes(connection, shown.id)
        samples = {split: _sample(connection, shown.id, split) for split in sizes}
    output.result({**_as_json(args.collection, shown, sizes), "arguments": shown.arguments, "checks": shown.checks})
    output.line(f"dataset {shown.id}: {shown.name} {shown.version}, {shown.origin}, {_state(shown)}")
    _say_counts(output, shown)
    for split, rows in samples.items():
        table = [
            (_short(row.query), row.style or row.origin, row.uri, _short(row.positive), len(row.negatives)) for row in rows
        ]
        output.table(("question", "style", "document", "passage", "negatives"), table, title=f"{split}: {sizes[split]}")


def _list(args: argparse.Namespace, pool: Pool, collection: int, output: Output) -> None:
    from include.store import datasets

    with pool.connection() as connection:
        found = datasets.datasets_of(connection, collection, args.data_name)
        sizes = {one.id: datasets.sizes(connection, one.id) for one in found}
    output.result({"collection": args.collection, "datasets": [_as_json(args.collection, one, sizes[one.id]) for one in found]})
    columns = ("id", "name", "version", "origin", "train", "dev", "made of", "state", "since (UTC)")
    rows = [
        (d.id, d.name, d.version, d.origin, sizes[d.id].get("train", 0), sizes[d.id].get("dev", 0), d.parent_id, _state(d),
         f"{d.created_at:%Y-%m-%d %H:%M}")
        for d in found
    ]  # fmt: skip
    output.table(columns, rows)
    if not found:
        output.line(f"{args.collection} has no dataset; make one with: ragworks dataset {args.collection} --build")


def _one(pool: Pool, collection: int, dataset: int) -> Dataset:
    from include.errors import BadData
    from include.store import datasets

    with pool.connection() as connection:
        found = datasets.dataset(connection, dataset)
    if found.collection_id != collection:
        raise BadData(f"dataset {dataset} is of another collection", "", "See: ragworks dataset NAME --list")
    return found


def _sample(connection: Connection, dataset: int, split: str) -> list[Pair]:
    from include.store import datasets

    return list(islice(datasets.pairs(connection, dataset, split), SHOWN))


def _checked(pool: Pool, made: Dataset, output: Output) -> Dataset:
    """The dataset with what the check found."""
    from include.datasets.check import check_dataset
    from include.store import datasets

    with output.progress() as progress:
        progress.step("check", None)
        check_dataset(pool, made.collection_id, made)
    with pool.connection() as connection:
        return datasets.dataset(connection, made.id)


def _say(output: Output, collection: str, pool: Pool, made: Dataset, *, seconds: float | None = None) -> None:
    from include.store import datasets

    with pool.connection() as connection:
        sizes = datasets.sizes(connection, made.id)
    took = {} if seconds is None else {"seconds": round(seconds, 3)}
    output.result({**_as_json(collection, made, sizes), **took})
    rows = ", ".join(f"{count} {split}" for split, count in sizes.items())
    output.line(f"dataset {made.id}: {made.name} {made.version}, {rows}, {_state(made)}")
    output.line(f"look at it with: ragworks dataset {collection} --show {made.id}")


def _say_counts(output: Output, made: Dataset) -> None:
    statistics = made.statistics
    for name, title in (("origins", "from"), ("styles", "style"), ("dropped", "left out")):
        if counts := statistics.get(name):
            output.table((title, "questions" if name == "dropped" else "pairs"), list(counts.items()))
    if without := statistics.get("without_negatives"):
        output.line(f"{without} pairs have no hard negative: all that was found is as near as the passage, or answers too")


def _as_json(collection: str, made: Dataset, sizes: dict[str, int]) -> dict[str, Any]:
    return {
        "collection": collection, "dataset": made.id, "name": made.name, "version": made.version, "origin": made.origin,
        "parent": made.parent_id, "content_hash": made.content_hash, "state": made.state, "checked": made.checks is not None,
        "rows": sizes, "statistics": made.statistics, "created_at": made.created_at.isoformat(),
    }  # fmt: skip


def _state(made: Dataset) -> str:
    if made.state == "refused":
        return "refused"
    return "sound" if made.checks else "not checked"


def _short(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= SNIPPET else plain[: SNIPPET - 1] + "…"

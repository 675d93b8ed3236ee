"""`dataset`: make, look at, correct and check what models are trained on."""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING, Any

from include.cli.fields import add_fields, given_fields

if TYPE_CHECKING:
    import argparse

    from include.config import Settings
    from include.output import Output
    from include.progress import Progress
    from include.store.datasets import Dataset
    from include.store.pool import Connection, Pool

FIELDS = "data_"  # before the names of the dataset's options among the arguments
SHOWN, SNIPPET = 8, 90  # pairs of each side that are shown, and characters of their texts


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command, with an option for each field of a dataset."""
    from include.datasets.conversations.options import LlmDataOptions
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
    parser.add_argument(
        "--kind", dest=FIELDS + "kind", choices=("pairs", "conversations", "preferences"),
        help="what it holds: pairs (the default) train a reranker or an embedder, conversations and preferences a language"
        " model; --import sees it in the file",
    )  # fmt: skip
    parser.add_argument("--id", type=int, metavar="ID", help="which one --export writes (the newest of --name that is sound)")
    add_fields(parser.add_argument_group("with --build"), DatasetOptions, dest=FIELDS)
    group = parser.add_argument_group("with --build, for a language model (and --name to --min-dev above, where they apply)")
    add_fields(group, LlmDataOptions, dest=FIELDS, but={*DatasetOptions.model_fields, "kind"})
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
    started = time.monotonic()
    with output.progress() as progress:
        made = _made(args, settings, pool, progress)
    _say_counts(output, made)
    _say(output, args.collection, pool, _checked(pool, made, output), seconds=time.monotonic() - started)


def _made(args: argparse.Namespace, settings: Settings, pool: Pool, progress: Progress) -> Dataset:
    """Pairs, or what a language model is trained on.

    :raises BadConfiguration: an option that means nothing for this kind.
    """
    from include.datasets.build import build_dataset
    from include.datasets.conversations.build import build_conversations
    from include.datasets.conversations.options import LlmDataOptions
    from include.datasets.options import DatasetOptions
    from include.errors import BadConfiguration
    from include.training.arguments import checked

    for_llm = args.data_kind not in (None, "pairs")
    given = given_fields(args, DatasetOptions, dest=FIELDS) | given_fields(args, LlmDataOptions, dest=FIELDS)
    if not for_llm:
        given.pop("kind", None)
    known = LlmDataOptions.model_fields if for_llm else DatasetOptions.model_fields
    if foreign := sorted(given.keys() - known.keys()):
        option = "--" + foreign[0].replace("_", "-")
        raise BadConfiguration(
            option, f"a dataset of {args.data_kind or 'pairs'} has no such option", "Leave it out, or give another --kind"
        )
    if for_llm:
        return build_conversations(settings, pool, args.collection, checked(LlmDataOptions, given), progress=progress)
    return build_dataset(settings, pool, args.collection, checked(DatasetOptions, given), progress=progress)


def _import(args: argparse.Namespace, pool: Pool, collection: int, output: Output) -> None:
    from include.datasets.conversations.imported import import_conversations
    from include.datasets.conversations.lines import kind_of_file
    from include.datasets.correcting import import_dataset

    path, name = args.imported, args.data_name
    kind = args.data_kind or kind_of_file(path) or "pairs"
    with output.progress() as progress:
        if kind == "pairs":
            made = import_dataset(pool, collection, path, name=name, progress=progress)
        else:
            made = import_conversations(pool, collection, path, kind, name=name, progress=progress)
    if made.parent_id is not None:
        output.line(f"made of dataset {made.parent_id}")
    _say(output, args.collection, pool, _checked(pool, made, output))


def _export(args: argparse.Namespace, pool: Pool, collection: int, output: Output) -> None:
    from include.datasets.conversations.imported import export_conversations
    from include.datasets.correcting import export_dataset
    from include.errors import BadData
    from include.store import datasets

    name = args.data_name or ("training" if args.data_kind in (None, "pairs") else args.data_kind)
    if args.id is not None:
        chosen: Dataset | None = _one(pool, collection, args.id)
    else:
        with pool.connection() as connection:
            chosen = datasets.latest(connection, collection, name)
    if chosen is None:
        fix = f"Make one with: ragworks dataset {args.collection} --build, or name one with --id"
        raise BadData(f"{args.collection} has no sound dataset {name!r}", "", fix)
    export = export_dataset if chosen.kind == "pairs" else export_conversations
    rows = export(pool, chosen, args.export)
    output.result({"collection": args.collection, "dataset": chosen.id, "file": args.export, "rows": rows})
    output.line(f"{rows} rows of dataset {chosen.id} ({chosen.name} {chosen.version}) written to {args.export}")
    output.line(f"corrected, they come back with: ragworks dataset {args.collection} --import {args.export}")


def _show(args: argparse.Namespace, pool: Pool, shown: Dataset, output: Output) -> None:
    from include.store import datasets

    with pool.connection() as connection:
        sizes = datasets.sizes(connection, shown.id)
        samples = {split: _sample(connection, shown, split) for split in sizes}
    output.result({**_as_json(args.collection, shown, sizes), "arguments": shown.arguments, "checks": shown.checks})
    output.line(f"dataset {shown.id}: {shown.name} {shown.version}, {shown.origin}, {_state(shown)}")
    _say_counts(output, shown)
    for split, rows in samples.items():
        output.table(rows[0], rows[1:], title=f"{split}: {sizes[split]}")


def _list(args: argparse.Namespace, pool: Pool, collection: int, output: Output) -> None:
    from include.store import datasets

    with pool.connection() as connection:
        found = datasets.datasets_of(connection, collection, args.data_name)
        sizes = {one.id: datasets.sizes(connection, one.id) for one in found}
    output.result({"collection": args.collection, "datasets": [_as_json(args.collection, one, sizes[one.id]) for one in found]})
    columns = ("id", "name", "version", "of", "origin", "train", "dev", "test", "made of", "state", "since (UTC)")
    rows = [
        (d.id, d.name, d.version, d.kind, d.origin, *(sizes[d.id].get(side, 0) for side in ("train", "dev", "test")),
         d.parent_id, _state(d), f"{d.created_at:%Y-%m-%d %H:%M}")
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


def _sample(connection: Connection, dataset: Dataset, split: str) -> list[tuple[Any, ...]]:
    """The heads of a table, and some rows of it."""
    from include.store import conversations, datasets

    if dataset.kind == "pairs":
        pairs = islice(datasets.pairs(connection, dataset.id, split), SHOWN)
        shown = [(_short(p.query), p.style or p.origin, p.uri, _short(p.positive), len(p.negatives)) for p in pairs]
        return [("question", "style", "document", "passage", "negatives"), *shown]
    rows = islice(conversations.conversations(connection, dataset.id, split), SHOWN)
    said = [(_short(r.question), r.task, r.uri, _short(r.answer), *([_short(r.rejected)] if r.rejected else [])) for r in rows]
    worse = ("rejected",) if dataset.kind == "preferences" else ()
    return [("question", "task", "document", "answer", *worse), *said]


def _checked(pool: Pool, made: Dataset, output: Output) -> Dataset:
    """The dataset with what the check found."""
    from include.datasets.check import check_dataset
    from include.datasets.conversations.check import check_conversations
    from include.store import datasets

    check = check_dataset if made.kind == "pairs" else check_conversations
    with output.progress() as progress:
        progress.step("check", None)
        check(pool, made.collection_id, made)
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
    for name, title in (("origins", "from"), ("styles", "style"), ("tasks", "task"), ("dropped", "left out")):
        if counts := statistics.get(name):
            output.table((title, "questions" if name == "dropped" else made.kind), list(counts.items()))
    if without := statistics.get("without_negatives"):
        output.line(f"{without} pairs have no hard negative: all that was found is as near as the passage, or answers too")


def _as_json(collection: str, made: Dataset, sizes: dict[str, int]) -> dict[str, Any]:
    return {
        "collection": collection, "dataset": made.id, "name": made.name, "version": made.version, "kind": made.kind,
        "origin": made.origin,
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

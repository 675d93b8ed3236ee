"""`train`: all the steps of a training in one process, as the DAGs run them one by one."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from include.cli.fields import add_fields, given_fields
from include.collection_file import collection_names, load_collection
from include.errors import BadConfiguration

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from include.config import Settings
    from include.output import Output
    from include.training.pipeline import Request

DATA = "data_"  # before the options of the dataset; on the command line --data-…


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command, with an option for each field of its dataclasses."""
    from include.datasets.families import data_options
    from include.training.arguments import ARGUMENTS

    parser = commands.add_parser("train", parents=[common], help="train a model, and judge it against what serves")
    families = parser.add_subparsers(dest="family", required=True, metavar="FAMILY")
    for family, model in ARGUMENTS.items():
        one = families.add_parser(family, parents=[common], help=f"train the {family}")
        one.add_argument("--collection", metavar="NAME", help="whose questions and documents (the only one, if there is one)")
        one.add_argument("--run-key", metavar="KEY", help="go on with an interrupted training")
        one.add_argument("--dataset", type=int, metavar="ID", help="a dataset that is there, instead of making one")
        one.add_argument("--force", action="store_true", help="also when the same work was done before")
        one.add_argument("--promote", action="store_true", help="put it to work at once if it is accepted")
        add_fields(one.add_argument_group("training"), model)
        add_fields(one.add_argument_group("data"), data_options(family), prefix=DATA, dest=DATA)
        one.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings, output: Output) -> None:
    """Run the command."""
    from include.store.pool import open_pool
    from include.training.pipeline import AlreadyDone, run_training

    request = _request(args, settings)
    key = args.run_key or f"cli/{uuid.uuid4()}"
    output.line(f"training {key}; if it is interrupted: ragworks train {args.family} --run-key {key}")
    with output.progress() as progress, open_pool(settings) as pool:
        try:
            result = run_training(settings, pool, key, request, promote_now=args.promote, progress=progress)
        except AlreadyDone as done:
            result = {"run_key": done.run.run_key, "state": done.run.state, "version": done.run.version, "note": str(done)}
    output.result(result)
    _say(output, args.family, result)


def _say(output: Output, family: str, result: Mapping[str, Any]) -> None:
    for line in result.get("reasons", ()):
        output.line(line)
    if page := result.get("page"):
        output.line(f"figures and plots: {page}")
    if note := result.get("note"):
        output.line(note)
    version = result.get("version")
    if result["state"] != "accepted":
        output.line(f"{family} {version} is {result['state']}: what serves stays")
    elif result.get("promotion"):
        output.line(f"{family} {version} serves; back again: ragworks rollback-model {family}")
    else:
        output.line(f"{family} {version} is accepted; put it to work with: ragworks promote {family} {version}")


def _request(args: argparse.Namespace, settings: Settings) -> Request:
    from include.datasets.families import data_options
    from include.training.arguments import ARGUMENTS, checked
    from include.training.pipeline import Request

    model, options = ARGUMENTS[args.family], data_options(args.family)
    collection = args.collection or _only(settings)
    usual = load_collection(settings, collection).training.arguments.get(args.family, {})
    return Request(
        args.family,
        collection,
        checked(model, usual | given_fields(args, model)),
        checked(options, given_fields(args, options, dest=DATA)),
        dataset=args.dataset,
        force=args.force or args.run_key is not None,
    )


def _only(settings: Settings) -> str:
    names = collection_names(settings)
    if len(names) != 1:
        raise BadConfiguration("--collection", f"there are {len(names)}: {', '.join(names)}", "Name one with --collection NAME")
    return names[0]

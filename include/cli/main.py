"""Parses the arguments, runs the command, and turns every failure into one line and an exit code."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from typing import TYPE_CHECKING

import psycopg

from include.cli import (
    answering,
    datasets,
    duplicates,
    evaluating,
    feedback,
    forgetting,
    generations,
    golden,
    indexing,
    inspecting,
    llm_serving,
    models,
    monitoring,
    reporting,
    searching,
    serving,
    stack,
    training,
)
from include.config import Settings
from include.errors import RagworksError
from include.output import Output
from include.store.errors import translate

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPTED = 1


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; a test compares it with docs/cli.md."""
    parser = argparse.ArgumentParser(prog="ragworks", description="Keep a pgvector index in step with documents, and use it.")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    common.add_argument("-v", "--verbose", action="store_true", help="log what happens to stderr")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for group in (
        indexing, searching, answering, evaluating, inspecting, generations, golden, feedback, duplicates, datasets, forgetting,
        training, models, monitoring, reporting, serving, llm_serving, stack,
    ):  # fmt: skip
        group.register(commands, common)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    :return: 0 done, 2 usage, 65 bad data or configuration, 69 a service is not there, 75 try again later, 1 anything else.
    """
    args = build_parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO if args.verbose else logging.WARNING,
        stream=sys.stderr,
        format="%(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    output = Output(as_json=args.json)
    try:
        args.run(args, Settings.from_environment(), output)
    except RagworksError as error:
        return _fail(output, str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail(output, "interrupted: finished work is kept, run the command again to go on", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left: nobody is there to be told
        return 1
    except psycopg.Error as error:
        if (known := translate(error)) is not None:
            return _fail(output, str(known), known.exit_code)
        return _fail(
            output,
            f"Postgres refused a statement ({' '.join(str(error).split())}). This is a defect: please report it",
            1,
        )
    return 0


def _fail(output: Output, message: str, code: int) -> int:
    print(f"ragworks: {message}", file=sys.stderr)
    output.result({"error": message, "exit_code": code})
    return code

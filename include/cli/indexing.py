"""`index`: bring a collection's index in step with its source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from include.config import Settings
    from include.output import Output
    from include.store.runs import RunDocument

SHOWN = 40  # documents listed for a person; --json and `runs NAME --run ID` have them all


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = commands.add_parser("index", parents=[common], help="bring the index in step with the source")
    parser.add_argument("name", help="collection")
    parser.add_argument("--plan", action="store_true", help="only say what would be done, why, and what it would cost")
    parser.add_argument(
        "--rebuild",
        action="store_true",
        help="read and embed everything again into a new generation, then swap; with --plan: say what that takes",
    )
    parser.add_argument("--allow-deletes", action="store_true", help="let this run delete more than validation.max_deleted")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings, output: Output) -> None:
    """Run the command."""
    from include.indexing.context import open_context
    from include.indexing.pipeline import index_collection
    from include.store import runs

    mode = "plan" if args.plan else "rebuild" if args.rebuild else "incremental"
    with output.progress() as progress, open_context(settings, args.name, progress=progress) as context:
        result = index_collection(context, mode=mode, allow_deletes=args.allow_deletes, rebuild=args.rebuild)
        with context.pool.connection() as connection:
            became = runs.run_documents(connection, result["run"], limit=SHOWN)
            total = runs.count_documents(connection, result["run"])
    output.result(result)
    show_documents(output, became, total)
    for line in describe(result, planned=args.plan):
        output.line(line)


def show_documents(output: Output, became: list[RunDocument], total: int) -> None:
    """What each document of a run became, of the first ones."""
    if became:
        rows = [(d.uri, d.action, d.chunks, d.embedded, d.reason) for d in became[:SHOWN]]
        output.table(("document", "action", "chunks", "embedded", "why"), rows)
    if total > SHOWN:
        output.line(f"… and {total - SHOWN} more documents")


def describe(result: dict[str, Any], *, planned: bool) -> list[str]:
    """A run's result for a person."""
    from include.indexing.estimate import describe_estimate

    plan = ", ".join(f"{count} {action.replace('_', ' ')}" for action, count in result["plan"].items())
    lines = [f"{result['collection']}: {plan}", f"expected: {describe_estimate(result['estimate'])}"]
    if "note" in result:
        lines.append(f"Note: {result['note']}")
    if planned:
        lines.append(
            "Nothing was changed: this is a plan."
            + (f" The run would stop: {result['stopped']}" if "stopped" in result else "")
        )
    else:
        chunks = result["chunks"]
        lines.append(
            f"generation {result['generation']}: {chunks['total']} chunks; {chunks['embedded']} texts embedded,"
            f" {chunks['reused']} reused, {chunks['written']} rows written, {chunks['deleted']} deleted; {result['seconds']} s"
        )
    if result["quarantined"]:
        lines.append(f"{result['quarantined']} in quarantine: ragworks quarantine {result['collection']}")
    return lines

"""`status`, `runs`, `quarantine`, `export`: see what is there, and why."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from include.cli.indexing import show_documents
from include.cli.searching import positive
from include.errors import BadData

if TYPE_CHECKING:
    import argparse
    from datetime import datetime

    from include.config import Settings
    from include.output import Output
    from include.store.pool import Connection
    from include.store.runs import Run


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands."""
    parser = commands.add_parser("status", parents=[common], help="collections, generations, counts, sizes, freshness")
    parser.add_argument("name", nargs="?", help="one collection (default: all)")
    parser.set_defaults(run=status)
    parser = commands.add_parser(
        "runs", parents=[common], help="runs of a collection, or one with its documents and validation"
    )
    parser.add_argument("name", help="collection")
    parser.add_argument("--run", dest="run_id", type=int, metavar="ID", help="one run: its documents and validation report")
    parser.add_argument("--limit", type=positive, default=20, metavar="N", help="how many runs (default 20)")
    parser.set_defaults(run=show_runs)
    parser = commands.add_parser("quarantine", parents=[common], help="documents that were refused, and why")
    parser.add_argument("name", help="collection")
    parser.add_argument("--retry", action="store_true", help="have the next run read them again")
    parser.add_argument("--acknowledge", action="store_true", help="have runs go on without them; they stay in quarantine")
    parser.set_defaults(run=show_quarantine)
    parser = commands.add_parser("export", parents=[common], help="every live chunk, one JSON line each")
    parser.add_argument("name", help="collection")
    parser.add_argument("--vectors", action="store_true", help="with the embeddings")
    parser.set_defaults(run=export)


def status(args: argparse.Namespace, settings: Settings, output: Output) -> None:
    """Show collections and their generations."""
    from include.collection_file import collection_names
    from include.store import overview
    from include.store.pool import open_pool

    with open_pool(settings) as pool, pool.connection() as connection:
        known = overview.overview(connection, args.name)
    if args.name and not known:
        raise BadData(f"collection {args.name!r} has no index yet", "it was never run here", f"Run: ragworks index {args.name}")
    configured = collection_names(settings)
    output.result({"collections": known, "configured": configured})
    for collection in known:
        output.line(
            f"{collection['name']}: {collection['documents']} documents, {collection['chunks']} chunks,"
            f" {collection['quarantined']} in quarantine, last run {collection['last_run'] or 'never'}"
        )
        rows = [
            (
                g["id"],
                g["state"],
                g["documents"],
                g["chunks"],
                f"{g['total_bytes'] / 1e6:.1f} MB",
                g["model"],
                f"{g['live_at']:%Y-%m-%d %H:%M}" if g["live_at"] else "",
            )
            for g in collection["generations"]
        ]
        output.table(("generation", "state", "documents", "chunks", "size", "embedder", "live since"), rows)
    missing = [name for name in configured if name not in {c["name"] for c in known}]
    if missing and not args.name:
        output.line(f"not indexed yet: {', '.join(missing)}")


def show_runs(args: argparse.Namespace, settings: Settings, output: Output) -> None:
    """Show the newest runs, or one in detail."""
    from include.store import collections, reports, runs
    from include.store.pool import open_pool

    with open_pool(settings) as pool, pool.connection() as connection:
        collection = collections.collection_id(connection, args.name)
        if args.run_id is None:
            _show_recent(output, runs.recent_runs(connection, collection, args.limit))
            return
        chosen = runs.run_by_id(connection, collection, args.run_id)
        if chosen is None:
            raise BadData(f"run {args.run_id} of {args.name!r}", "there is no such run", f"See: ragworks runs {args.name}")
        became, found = runs.run_documents(connection, chosen.id), reports.reports(connection, chosen.id)
    compared = planned_and_done(chosen)
    output.result(
        {
            **asdict(chosen),
            "documents": [asdict(d) for d in became],
            "validation": [asdict(r) for r in found],
            "planned_and_done": compared,
        }
    )
    _show_recent(output, [chosen], with_json=False)
    output.table(("", "planned", "done"), [(key, *both) for key, both in compared.items()], title="plan and outcome")
    show_documents(output, became, len(became))
    rows = [
        (r.suite, e["name"], e["result"]["element_count"], len(e["rows"]), ", ".join(e["rows"][:3]))
        for r in found
        for e in r.result["expectations"]
    ]
    output.table(("suite", "expectation", "evaluated", "failed", "rows"), rows, title="validation")


def planned_and_done(run: Run) -> dict[str, list[Any]]:
    """What a run expected, beside what it did: documents by action, texts, tokens, seconds of the index step, cost."""
    from include.indexing.estimate import cost_of
    from include.indexing.plan import ACTIONS

    plan, expected = run.plan or {}, run.estimate or {}
    done = plan.get("done")  # None: it did not come to a publication, or was one of an earlier release
    documents = {
        f"documents {action.replace('_', ' ')}": [plan.get(action, 0), None if done is None else done.get(action, 0)]
        for action in ACTIONS
    }
    return {
        **documents,
        "texts embedded": [expected.get("texts"), run.embedded],
        "tokens embedded": [expected.get("tokens"), run.tokens],
        "seconds to index": [expected.get("seconds"), run.seconds.get("index")],
        "cost": [expected.get("cost"), cost_of(run.tokens, _price(expected))],
    }


def _price(expected: dict[str, Any]) -> float | None:
    """A million tokens at the time of the plan; earlier releases kept only what all of them cost."""
    if "price" in expected:
        return None if expected["price"] is None else float(expected["price"])
    cost, tokens = expected.get("cost"), expected.get("tokens")
    return cost / tokens * 1e6 if cost and tokens else None


def _show_recent(output: Output, recent: list[Run], *, with_json: bool = True) -> None:
    if with_json:
        output.result({"runs": [asdict(r) for r in recent]})
    rows = [
        (r.id, f"{r.started_at:%m-%d %H:%M:%S}", r.mode, r.state, r.embedded, r.reused, r.written, r.deleted, _took(r))
        for r in recent
    ]
    output.table(("run", "started (UTC)", "mode", "state", "embedded", "reused", "written", "deleted", "seconds"), rows)
    for r in recent:
        if r.error:
            output.line(f"run {r.id}: {r.error}")


def _took(run: Run) -> str:
    return f"{(run.finished_at - run.started_at).total_seconds():.1f}" if run.finished_at else ""


def show_quarantine(args: argparse.Namespace, settings: Settings, output: Output) -> None:
    """Show open rows, have them read again, or let runs go on without them."""
    from include.store import collections, quarantine
    from include.store.pool import open_pool

    with open_pool(settings) as pool, pool.connection() as connection:
        collection = collections.collection_id(connection, args.name)
        acknowledged = quarantine.acknowledge_shown(connection, collection) if args.acknowledge else 0
        rows = quarantine.open_rows(connection, collection)
        retried = _retry(connection, collection) if args.retry else 0
    found = {"collection": args.name, "quarantined": [asdict(r) for r in rows]}
    output.result({**found, "retried": retried, "acknowledged": acknowledged})
    output.table(
        ("document", "where", "expectation", "why", "tries", "since (UTC)", "next try"),
        [(r.uri, r.locator, r.expectation, r.detail, r.attempts, _minute(r.first_seen), _minute(r.retry_at)) for r in rows],
    )
    output.line(f"{len(rows)} in quarantine")
    if args.acknowledge:
        output.line(f"{acknowledged} acknowledged: they no longer stop: ragworks index {args.name}")
    if args.retry:
        output.line(f"{retried} files will be read again by: ragworks index {args.name}")


def _minute(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment else ""


def _retry(connection: Connection, collection: int) -> int:
    from include.store import objects, quarantine

    quarantine.make_due(connection, collection)
    return objects.forget_fingerprints(connection, collection, quarantine.open_objects(connection, collection))


def export(args: argparse.Namespace, settings: Settings, _: Output) -> None:
    """One JSON line a chunk, with or without --json."""
    from include.store import chunks, collections, generations
    from include.store.pool import open_pool

    with open_pool(settings) as pool, pool.connection() as connection:
        live = generations.require_live(connection, collections.collection_id(connection, args.name), args.name)
        for row in chunks.export_chunks(connection, live, vectors=args.vectors):
            sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")

"""`generations`, `activate`, `rollback`: what was built, and which of it answers queries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from include.config import Settings
    from include.output import Output
    from include.store.generations import Generation

FORCE = "also when the model that made it is not there any more"


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands."""
    parser = commands.add_parser("generations", parents=[common], help="the built indexes of a collection")
    parser.add_argument("name", help="collection")
    parser.set_defaults(run=show)
    parser = commands.add_parser("activate", parents=[common], help="have another generation answer queries, at once")
    parser.add_argument("name", help="collection")
    parser.add_argument("generation", type=int, help="its number, as `generations` shows it")
    parser.add_argument("--force", action="store_true", help=FORCE)
    parser.set_defaults(run=activate)
    parser = commands.add_parser("rollback", parents=[common], help="go back to the generation that served last, at once")
    parser.add_argument("name", help="collection")
    parser.add_argument("--force", action="store_true", help=FORCE)
    parser.set_defaults(run=rollback)


def show(args: argparse.Namespace, settings: Settings, output: Output) -> None:
    """List generations, newest first, with what differs from the one before."""
    from include.indexing.spec import describe_difference
    from include.store import collections, generations, overview
    from include.store.pool import open_pool

    with open_pool(settings) as pool, pool.connection() as connection:
        collection = collections.collection_id(connection, args.name)
        found = generations.generations(connection, collection)
        sizes = [overview.describe_generation(connection, generation) for generation in found]
        held = collections.held_spec(connection, collection)
    entries = [
        {
            **size,
            "held": held is not None and generation.spec_hash == held,
            "gate": generation.gate,
            "run_key": generation.metrics.get("run_key"),
            "complete": generation.state != "building" and generation.metrics.get("complete", True),
            "changed": describe_difference(before.spec, generation.spec) if before else "",
        }
        for size, generation, before in zip(sizes, found, _before(found), strict=True)
    ]
    output.result({"collection": args.name, "generations": entries})
    rows = [
        (
            e["id"],
            _state(e),
            e["documents"],
            e["chunks"],
            f"{e['total_bytes'] / 1e6:.1f} MB",
            e["model"],
            _when(e["live_at"]),
            _quality(e["gate"]),
            e["changed"],
        )
        for e in reversed(entries)
    ]
    output.table(
        ("generation", "state", "documents", "chunks", "size", "embedder", "live since (UTC)", "quality", "differs in"), rows
    )
    if any(e["held"] for e in entries):
        output.line("held: refused by the quality gate or rolled back; not built again until the settings change, or --rebuild")
    if any(e["state"] == "candidate" for e in entries):
        output.line("candidate: of an embedder on trial, asked by evaluations alone; docs/gates.md")


def _before(found: Sequence[Generation]) -> list[Generation | None]:
    """What each is compared with: the one numbered before it; candidates stand aside, and are compared with the live one."""
    live = next((g for g in found if g.state == "live"), None)
    compared: list[Generation | None] = []
    last: Generation | None = None
    for one in found:
        compared.append(live if one.state == "candidate" else last)
        last = last if one.state == "candidate" else one
    return compared


def _state(entry: dict[str, Any]) -> str:
    """The state, and what else a person should know of it."""
    if entry["state"] == "candidate":
        return "candidate" if entry["complete"] else "candidate (being built)"
    return str(entry["state"]) + (" (held)" if entry["held"] else "")


def activate(args: argparse.Namespace, settings: Settings, output: Output) -> None:
    """Swap to the generation that is named."""
    from include.indexing.activate import activate as swap
    from include.store.pool import open_pool

    with open_pool(settings) as pool:
        _say(swap(pool, args.name, args.generation, settings=None if args.force else settings), output)


def rollback(args: argparse.Namespace, settings: Settings, output: Output) -> None:
    """Swap to the generation before."""
    from include.indexing.activate import rollback as back
    from include.store.pool import open_pool

    with open_pool(settings) as pool:
        _say(back(pool, args.name, settings=None if args.force else settings), output)


def _say(result: dict[str, Any], output: Output) -> None:
    output.result(result)
    name, generation = result["collection"], result["generation"]
    if result["replaced"] is None:
        output.line(f"{name}: generation {generation} is live already")
    else:
        output.line(f"{name}: generation {generation} is live instead of {result['replaced']} ({result['seconds']} s)")
        output.line(f"Back again: ragworks activate {name} {result['replaced']}")
    if result["behind"]:
        output.line(f"{result['behind']} documents changed meanwhile: bring them in with `ragworks index {name}`")


def _when(moment: Any) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment else ""


def _quality(gate: dict[str, Any] | None) -> str:
    """The nDCG@10 of a generation and of the one that it was compared with."""
    if not gate or gate.get("built") is None:
        return ""
    before = f" (before {gate['live']:.3f})" if gate.get("live") is not None else ""
    further = _quality(gate.get("sanity"))
    return f"{gate['built']:.3f}{before}" + (f"; headings {further}" if further else "")

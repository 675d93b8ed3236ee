"""`models`, `promote`, `rollback-model`: what was trained, what the gate said, what serves, and how to change that."""

from __future__ import annotations

import getpass
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from include.collection_file import collection_names
from include.config import ENVIRONMENTS, FAMILIES
from include.errors import BadConfiguration, BadData

if TYPE_CHECKING:
    import argparse

    from include.config import Settings
    from include.output import Output
    from include.store.deployments import Deployment
    from include.store.model_runs import ModelRun
    from include.store.pool import Pool

PROMOTED = ("reranker", "embedder", "llm")


def register(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands."""
    parser = commands.add_parser("models", parents=[common], help="what was trained, what the gate said, and what serves")
    parser.add_argument("family", nargs="?", choices=FAMILIES, help="of this family alone")
    parser.add_argument("--collection", metavar="NAME", help="of this collection alone")
    parser.add_argument("--run", dest="key", metavar="KEY", help="everything about one training")
    parser.set_defaults(run=show)
    parser = commands.add_parser("promote", parents=[common], help="have a trained model serve")
    parser.add_argument("family", choices=PROMOTED)
    parser.add_argument("version", type=int, help="its number, as `models` shows it")
    parser.add_argument("--collection", metavar="NAME", help="needed when several collections have models of the family")
    parser.add_argument("--unproved", action="store_true", help="although the gate has not accepted it; the history says so")
    parser.add_argument("--reason", default="", metavar="TEXT", help="why, for the history")
    parser.add_argument(
        "--from", dest="source", choices=ENVIRONMENTS, metavar="ENVIRONMENT",
        help="VERSION is this environment's, on the same database: it is registered here first",
    )  # fmt: skip
    parser.set_defaults(run=promote)
    parser = commands.add_parser("rollback-model", parents=[common], help="go back to the model that served before, at once")
    parser.add_argument("family", choices=PROMOTED)
    parser.add_argument("--collection", metavar="NAME", help="needed when several collections have models of the family")
    parser.add_argument("--reason", default="", metavar="TEXT", help="why, for the history")
    parser.set_defaults(run=roll_back)


def show(args: argparse.Namespace, settings: Settings, output: Output) -> None:
    """List versions and deployments, newest first, after MLflow's aliases were brought in step with them."""
    from include.store import model_runs
    from include.store.pool import open_pool

    with open_pool(settings) as pool:
        if args.key:
            with pool.connection() as connection:
                run = model_runs.by_key(connection, args.key)
            _show_run(run, output)
            return
        families = [args.family] if args.family else FAMILIES
        found = [one for family in families for one in _of_family(settings, pool, family, args.collection)]
    output.result({"environment": settings.environment, "models": found})
    for one in found:
        _show_family(one, output)
    if not found:
        output.line(f"Nothing was trained yet in {settings.environment}: ragworks train")


def promote(args: argparse.Namespace, settings: Settings, output: Output) -> None:
    """Promote, then ask a few questions; what fails them is taken back."""
    from include.registry import promotion
    from include.registry.verification import verify
    from include.store.pool import open_pool

    with open_pool(settings) as pool, output.progress() as progress:
        environment = args.source or settings.environment
        name = chosen(settings, pool, args.family, args.collection, environment)
        version = args.version
        if args.source and args.source != settings.environment:
            version = promotion.copy_version(settings, pool, args.family, version, collection=name, source=args.source)
        result = promotion.promote(
            settings, pool, args.family, version, collection=name, actor=_who(), reason=args.reason, unproved=args.unproved,
            progress=progress,
        )  # fmt: skip
        progress.step("ask some questions", None)
        result["verification"] = verify(settings, pool, args.family, name)
    output.result(result)
    what = f"{args.family} {version} of {name} in {settings.environment}"
    if not result["changed"]:
        output.line(f"{what} serves already")
    else:
        before = f"version {result['replaced']}" if result["replaced"] is not None else "no trained one"
        index = f", generation {result['generation']} is live" if "generation" in result else ""
        output.line(f"{what} serves instead of {before}{index} ({result['seconds']} s)")
    found = result["verification"]
    output.line(_verified_on(found))
    output.line(f"Back again: ragworks rollback-model {args.family} --collection {name}")


def _verified_on(found: dict[str, Any]) -> str:
    """In words; a language model's questions have no nDCG."""
    parts = [f"nDCG@10 {found['ndcg']:.3f}"] if isinstance(found.get("ndcg"), float) else []
    parts += [f"score {found['score']:.3f}"] if isinstance(found.get("score"), float) else []
    parts += [f"p95 {found['p95_ms']:.0f} ms"] if found.get("p95_ms") is not None else []
    asked = f"Verified on {found['questions']} questions" if "questions" in found else "Verified"
    return asked + (f": {', '.join(parts)}" if parts else "")


def roll_back(args: argparse.Namespace, settings: Settings, output: Output) -> None:
    """Have the model before serve again."""
    from include.registry.rollback import roll_back_model
    from include.store.pool import open_pool

    with open_pool(settings) as pool:
        name = chosen(settings, pool, args.family, args.collection, settings.environment)
        result = roll_back_model(settings, pool, args.family, collection=name, actor=_who(), reason=args.reason)
    output.result(result)
    if result["cancelled"] is not None:
        output.line(f"{args.family} of {name}: the promotion of version {result['cancelled']} was given up")
        return
    now = f"version {result['version']}" if result["version"] is not None else "no trained one"
    output.line(f"{args.family} of {name}: {now} serves instead of version {result['replaced']} ({result['seconds']} s)")
    if result.get("behind"):
        output.line(f"{result['behind']} documents changed meanwhile: bring them in with `ragworks index {name}`")


def chosen(settings: Settings, pool: Pool, family: str, named: str | None, environment: str) -> str:
    """The collection that is meant.

    :raises BadConfiguration: several have models of the family.
    :raises BadData: none has.
    """
    from include.store import model_versions

    if named is not None:
        return named
    with pool.connection() as connection:
        found = model_versions.collections_with(connection, environment, family)
    if len(found) == 1:
        return found[0]
    if not found:
        raise BadData(f"no {family} was registered in {environment}", "none was trained", f"Run: ragworks train {family}")
    raise BadConfiguration("--collection is missing", f"{', '.join(found)} have a {family}", "Name one")


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as in some containers
        return "command line"


def _of_family(settings: Settings, pool: Pool, family: str, named: str | None) -> list[dict[str, Any]]:
    from include.registry.versions import aliases, sync_aliases
    from include.store import collections, deployed_embedders, deployments, model_runs, model_versions

    found = []
    for name in [named] if named else collection_names(settings):
        with pool.connection() as connection:
            try:
                collection = collections.collection_id(connection, name)
            except BadData:  # never indexed
                if named:
                    raise
                continue
            deployed_embedders.follow_index(connection, collection)
            numbers = {
                v.run.id: v.version for v in model_versions.versions(connection, settings.environment, family, collection)
            }
            runs = model_runs.runs_of(connection, family, collection)
            history = deployments.history(connection, settings.environment, family, collection)
            versions = [_version(run, numbers.get(run.id)) for run in runs]
        if versions:
            marks = aliases(settings, pool, family, name)
            in_step = sync_aliases(settings, pool, family, name)
            found.append(
                {
                    "family": family,
                    "collection": name,
                    "champion": marks.get("champion"),
                    "challenger": marks.get("challenger"),
                    "mlflow": "in step" if in_step else "not reachable",
                    "versions": versions,
                    "deployments": [_deployment(one) for one in history],
                }
            )
    return found


def _version(run: ModelRun, number: int | None) -> dict[str, Any]:
    from include.registry.verification import figure

    gate = run.gate or {}
    told = {key: getattr(run, key) for key in ("run_key", "state", "base", "artifact", "fingerprint", "error", "created_at")}
    return {
        "version": number, **told, "finished_at": run.finished_at, "dataset": run.dataset_id,
        "accepted": run.state == "accepted", "summary": gate.get("summary", ""), "reasons": list(gate.get("reasons", ())),
        "ndcg@10": {side: figure(run.evaluation, side) for side in ("champion", "challenger")},
    }  # fmt: skip


def _deployment(one: Deployment) -> dict[str, Any]:
    keys = ("id", "version", "run_key", "action", "state", "reason", "actor", "created_at", "ended_at", "verification")
    return {**{key: getattr(one, key) for key in keys}, "unproved": bool(one.settings.get("unproved"))}


def _show_family(found: dict[str, Any], output: Output) -> None:
    title = f"{found['family']} of {found['collection']}"
    marks = {found["challenger"]: "challenger", found["champion"]: "champion"}
    rows = [
        ("" if v["version"] is None else v["version"], marks.get(v["version"], "") if v["version"] is not None else "",
         v["state"], _first(v), v["base"], f"{v['created_at']:%Y-%m-%d %H:%M}", v["run_key"])
        for v in found["versions"]
    ]  # fmt: skip
    output.table(("version", "is", "state", "the gate says", "base", "trained (UTC)", "training"), rows, title=title)
    past = [
        (f"{d['created_at']:%Y-%m-%d %H:%M}", "none" if d["version"] is None else d["version"],
         d["action"] + (" (unproved)" if d["unproved"] else ""), d["state"], _verified(d["verification"]), d["actor"],
         d["reason"])
        for d in found["deployments"]
    ]  # fmt: skip
    if past:
        output.table(
            ("since (UTC)", "version", "action", "state", "verified", "by", "why"), past, title=f"Deployments: {title}"
        )
    if found["mlflow"] != "in step":
        output.line("MLflow cannot be reached: its aliases are behind; what serves does not depend on it")


def _first(version: dict[str, Any]) -> str:
    return str(version["error"] or next(iter(version["reasons"]), ""))


def _verified(verification: dict[str, Any] | None) -> str:
    if verification is None:
        return ""
    return "yes" if verification.get("ok") else "failed"


def _show_run(run: ModelRun, output: Output) -> None:
    fields = asdict(run)
    output.result(fields)
    output.table(("", run.run_key), [(key, value) for key, value in fields.items() if value not in (None, {}, "")])

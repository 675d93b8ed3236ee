"""What is fixed when the training of a language model is planned: which base, which adapter to go on from, which to merge with.

A word such as champion means another model tomorrow; the row of a training names the model itself, and a retry finds it there.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from include.collection_file import CHAMPION, load_collection
from include.errors import BadConfiguration
from include.registry.artifacts import local_model, read_manifest
from include.store import collections, deployments, model_runs
from include.training.llm.adapters import read_adapter
from include.training.llm.bases import Base, find_base

if TYPE_CHECKING:
    from include.config import Settings
    from include.store.model_runs import ModelRun
    from include.store.pool import Pool
    from include.training.arguments import LlmArguments
    from include.training.pipeline import Request

FAMILY = "llm"


def resolved(settings: Settings, pool: Pool, request: Request) -> Request:
    """The request with names in place of words, and the shape of the adapter that it goes on from.

    :raises BadConfiguration: no base is named anywhere, or nothing was promoted that is called champion.
    """
    arguments = cast("LlmArguments", request.arguments)
    champion = _champion(settings, pool, request) if CHAMPION in _words(arguments) else None  # its number is this environment's
    changes: dict[str, Any] = {}
    if arguments.start_adapter:
        changes |= _went_on(settings, pool, arguments.start_adapter, champion)
    start = str(changes.get("start_adapter", ""))
    changes["base"] = _base_name(settings, request, champion, start)
    if champion is not None:
        changes["merge_with"] = tuple(
            dict.fromkeys(str(champion.version) if one == CHAMPION else one for one in arguments.merge_with)
        )
    return replace(request, arguments=arguments.model_copy(update=changes))


def planned_base(settings: Settings, name: str, quantisation: str) -> Base:
    """The base of this name, which is downloaded once where it is on the hub.

    :raises BadConfiguration: absent, gated, or no causal language model.
    """
    return replace(find_base(local_model(name, settings), quantisation=quantisation), name=name)


def _words(arguments: LlmArguments) -> tuple[str, ...]:
    return (arguments.base, arguments.start_adapter, *arguments.merge_with)


def _base_name(settings: Settings, request: Request, champion: ModelRun | None, start: str) -> str:
    """As it was asked for, else that of the adapter to go on from, else the collection's."""
    asked = request.arguments.base
    if asked == CHAMPION and champion is not None:
        return champion.base
    found = asked or (_base_of(settings, start) if start else "")
    found = found or load_collection(settings, request.collection).training.llm_base
    if not found:
        raise BadConfiguration(
            f"base of the llm of {request.collection}", "none is named",
            "Set base, or training.llm_base in the collection's file: a folder, or a name on the hub",
        )  # fmt: skip
    return found


def _base_of(settings: Settings, adapter: str) -> str:
    return str(read_manifest(adapter, settings).get("base") or "")


def _went_on(settings: Settings, pool: Pool, name: str, champion: ModelRun | None) -> dict[str, Any]:
    """An adapter keeps its shape: the row says the rank that it has, not the one that was asked for.

    :raises BadData: it is not what the registry knows under this name.
    """
    found = champion.artifact if name == CHAMPION and champion is not None else name
    with pool.connection() as connection:
        known = model_runs.fingerprint_of(connection, found or name)
    adapter = read_adapter(Path(local_model(found or name, settings)), fingerprint=known)
    shape = {"lora_rank": adapter.rank, "lora_alpha": round(adapter.alpha), "target_modules": adapter.target_modules}
    return {"start_adapter": found or name, **shape}


def _champion(settings: Settings, pool: Pool, request: Request) -> ModelRun:
    with pool.connection() as connection:
        collection = collections.collection_id(connection, request.collection)
        live = deployments.deployed(connection, settings.environment, FAMILY, collection)
        run = model_runs.by_id(connection, live.model_run_id) if live and live.model_run_id else None
        if run is not None and live is not None:
            run = replace(run, version=live.version)
    if run is None or run.artifact is None:
        fix = "Name a model to start from"
        raise BadConfiguration(f"{CHAMPION!r}", f"no {FAMILY} of {request.collection} has been promoted", fix)
    return run

"""What a language model has learned from: its own dataset, and those of every adapter that it goes on from or is merged of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.errors import BadData
from include.store import model_runs, model_versions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.store.model_runs import ModelRun
    from include.store.pool import Connection

ALONE = "alone"  # of merges: nothing was merged in the end


def lineage(connection: Connection, environment: str, run: ModelRun) -> list[ModelRun]:
    """A training and all whose adapters are in its model, each once. Adapters from outside the registry are not known.

    :param environment: whose version numbers ``merge_with`` has, before the merging itself wrote down what was merged.
    """
    found, waiting = {run.id: run}, [run]
    while waiting:
        for parent in _parents(connection, environment, waiting.pop()):
            if parent.id not in found:
                found[parent.id] = parent
                waiting.append(parent)
    return list(found.values())


def learned_datasets(connection: Connection, environment: str, run: ModelRun) -> list[int]:
    """Their datasets, that of the training itself first."""
    return list(dict.fromkeys(one.dataset_id for one in lineage(connection, environment, run) if one.dataset_id is not None))


def _parents(connection: Connection, environment: str, run: ModelRun) -> Iterator[ModelRun]:
    if start := run.arguments.get("start_adapter"):
        yield from model_runs.holding(connection, artifact=str(start))
    merge = run.training.get("merge")
    if merge is not None:
        for fingerprint in merge.get("merged_with", ()) if merge.get("kept") != ALONE else ():
            yield from model_runs.holding(connection, fingerprint=str(fingerprint))
        return
    for name in run.arguments.get("merge_with") or ():
        try:
            yield model_versions.run_of(connection, environment, run.family, run.collection_id, int(name))
        except (BadData, ValueError):  # the step that merges says so
            continue

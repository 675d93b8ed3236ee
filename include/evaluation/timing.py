"""How long searches take when several are asked at once, for each contender by itself."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from include.embedding.device import nearest, on_device
from include.evaluation.asking import ask
from include.evaluation.latency import describe_latency
from include.store.pool import open_pool

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from include.evaluation.asking import Asked
    from include.evaluation.contenders import Contender, Trial
    from include.store.golden import GoldenQuery

BLOCKS = 2  # the contenders take turns by blocks: a slow minute hits all, and none waits for another's searches
SPARE = 2  # connections beyond those of the clients
PER_BLOCK = 50  # questions; of 100 searches the 95th percentile rests on five, the 99th on one


def first_search(trial: Trial, contender: Contender, query: str, *, top_k: int, before: float = 0.0) -> float:
    """Milliseconds of the first search, with models to load if no search of this process used them before.

    :param before: seconds of loading that were spent on it already.
    """
    started = time.monotonic()
    contender.side(trial).find(query, top_k)
    return (before + time.monotonic() - started) * 1000


def under_load(
    trial: Trial, contenders: Sequence[Contender], queries: Sequence[GoldenQuery], *, top_k: int, cold_ms: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """Side → percentiles of a whole search, with ``training.clients`` asked at once; warm, and the first one apart.

    Models run on ``training.latency_device``, as those that serve do: the pod that judges may have a GPU that they have not.

    :param queries: the first PER_BLOCK are asked, in BLOCKS rounds.
    """
    clients, where = trial.collection.training.clients, nearest(trial.collection.training.latency_device)
    with on_device(where), open_pool(trial.settings, max_size=clients + SPARE) as pool:  # none waits for a connection
        here = replace(trial, pool=pool)
        for contender in contenders:  # on that device it may be loaded for the first time
            contender.side(here).find(queries[0].query, top_k)
        return _timed(here, contenders, queries[:PER_BLOCK], top_k, clients, cold_ms)


def _timed(
    trial: Trial,
    contenders: Sequence[Contender],
    queries: Sequence[GoldenQuery],
    top_k: int,
    clients: int,
    cold_ms: Mapping[str, float],
) -> dict[str, dict[str, Any]]:
    asked: dict[str, list[Asked]] = {contender.name: [] for contender in contenders}
    seconds = dict.fromkeys(asked, 0.0)
    for block in range(BLOCKS):
        for contender in contenders:
            started = time.monotonic()
            (found,) = ask([contender.side(trial)], queries, top_k=top_k, clients=clients, seed=block, progress=trial.progress)
            seconds[contender.name] += time.monotonic() - started
            asked[contender.name] += found
    return {
        name: describe_latency(found, clients=clients, seconds=seconds[name], cold_ms=cold_ms.get(name))
        for name, found in asked.items()
    }

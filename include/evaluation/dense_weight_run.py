"""Runs :mod:`include.evaluation.dense_weight` on a collection's questions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.errors import BadData
from include.evaluation.cases import file_cases, golden_cases
from include.evaluation.configuration import open_searcher
from include.evaluation.dense_weight import Fit, fit, gather
from include.evaluation.evaluate import base_configuration
from include.store import collections, generations

if TYPE_CHECKING:
    from include.config import Settings
    from include.embedding.embedder import Embedder
    from include.evaluation.cases import Cases
    from include.progress import Progress
    from include.store.pool import Pool

FEWEST = 2  # a question for each half


def fit_collection(
    settings: Settings,
    pool: Pool,
    name: str,
    queries: str | None,
    qrels: str | None,
    *,
    progress: Progress,
    embedder: Embedder | None = None,
) -> tuple[Cases, Fit]:
    """Fit on the golden queries, or on files; nothing is changed.

    :raises BadData: there are no questions, or the generation has no lexical index.
    """
    judged = file_cases(queries, qrels) if queries and qrels else None
    with pool.connection() as connection:
        collection = collections.collection_id(connection, name)
        live = generations.require_live(connection, collection, name)
        cases = judged or golden_cases(connection, collection, live.id)
    if len(cases.queries) < FEWEST:
        raise BadData(
            f"{name} cannot be fitted", f"it has {len(cases.queries)} golden queries that can be asked",
            f"Import some with: ragworks golden {name}, or give --queries and --qrels",
        )  # fmt: skip
    base = base_configuration(settings, name, live.id, "hybrid", False)
    searcher = open_searcher(settings, pool, name, base, collection, embedder=embedder)
    pools = gather(searcher.candidates, cases.queries, depth=base.retrieval.candidates, progress=progress)
    return cases, fit(pools, base.retrieval.dense_weight)

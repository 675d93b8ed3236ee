"""Runs judged queries through search and scores the rankings with ir-measures (trec_eval's definitions, linear gain)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from include.errors import BadData

if TYPE_CHECKING:
    from collections.abc import Mapping

    from include.indexing.progress import Progress
    from include.retrieval.searcher import Searcher


def evaluate(
    searcher: Searcher,
    queries: Mapping[str, str],
    qrels: Mapping[str, Mapping[str, int]],
    *,
    top_k: int,
    progress: Progress,
) -> dict[str, float | int]:
    """Score the queries that have at least one relevant document; documents are ranked by their best chunk.

    :return: queries, ndcg@k, recall@k, mrr@k, and the latency of a whole search (embedding and SQL) in milliseconds.
    """
    judged = {q: text for q, text in queries.items() if any(grade > 0 for grade in qrels.get(q, {}).values())}
    if not judged:
        raise BadData("nothing to evaluate", "no query has a relevant document", "Check that both files use the same query ids")
    searcher.documents(next(iter(judged.values())), top_k=top_k)  # load the model outside the measured time
    progress.step("evaluate", len(judged))
    rankings: dict[str, list[tuple[str, float]]] = {}
    milliseconds = []
    for query, text in judged.items():
        started = time.monotonic()
        rankings[query] = searcher.documents(text, top_k=top_k)
        milliseconds.append((time.monotonic() - started) * 1000)
        progress.advance(1)
    return {"queries": len(judged), **score(rankings, qrels, top_k), **latency(milliseconds)}


def score(
    rankings: Mapping[str, list[tuple[str, float]]], qrels: Mapping[str, Mapping[str, int]], top_k: int
) -> dict[str, float]:
    """nDCG, recall and reciprocal rank at ``top_k``, averaged over the queries of ``rankings``."""
    from ir_measures import RR, Qrel, R, ScoredDoc, calc_aggregate, nDCG

    measures = {f"ndcg@{top_k}": nDCG @ top_k, f"recall@{top_k}": R @ top_k, f"mrr@{top_k}": RR @ top_k}
    judgements = [Qrel(q, d, grade) for q in rankings for d, grade in qrels[q].items()]
    # The rank itself is the score: search breaks ties by document, trec_eval would break them its own way.
    run = [ScoredDoc(q, d, float(-rank)) for q, ranking in rankings.items() for rank, (d, _) in enumerate(ranking)]
    values = calc_aggregate(list(measures.values()), judgements, run)
    return {name: round(float(values[measure]), 4) for name, measure in measures.items()}


def latency(milliseconds: list[float]) -> dict[str, float]:
    """Median and 95th percentile, by linear interpolation."""
    import numpy as np

    p50, p95 = np.percentile(milliseconds, [50, 95])
    return {"p50_ms": round(float(p50), 2), "p95_ms": round(float(p95), 2)}

"""Scores of one question each, so that means, slices, intervals and comparisons rest on the same numbers.

Where questions ask for whole documents, ir-measures scores (trec_eval's definitions, linear gain). Where they ask for
characters, the same definitions over what :mod:`include.evaluation.relevance` says stands in each place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.evaluation.relevance import gains, ndcg, recall

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from include.store.golden import GoldenQuery
    from include.store.search import Hit

Scores = dict[str, float]


def measure_names(top_k: int) -> tuple[str, ...]:
    """The most telling one first."""
    return tuple(f"{name}@{top_k}" for name in ("ndcg", "recall", "mrr", "map", "precision"))


def score_documents(
    rankings: Mapping[str, Sequence[str]], qrels: Mapping[str, Mapping[str, int]], top_k: int
) -> dict[str, Scores]:
    """Scores of each query's ranking of documents.

    :param qrels: query → document → grade; above 0 is relevant.
    """
    from ir_measures import AP, RR, P, Qrel, R, ScoredDoc, iter_calc, nDCG

    measures = [nDCG @ top_k, R @ top_k, RR @ top_k, AP @ top_k, P @ top_k]
    names = dict(zip(measures, measure_names(top_k), strict=True))
    judgements = [Qrel(q, d, grade) for q in rankings for d, grade in qrels[q].items()]
    # The rank itself is the score: search breaks ties by document, trec_eval would break them its own way.
    run = [ScoredDoc(q, d, float(-rank)) for q, ranking in rankings.items() for rank, d in enumerate(ranking)]
    scores = {q: dict.fromkeys(names.values(), 0.0) for q in rankings}  # one that finds nothing is not reported
    for value in iter_calc(measures, judgements, run) if run else ():
        scores[value.query_id][names[value.measure]] = float(value.value)
    return scores


def score_gains(gained: Sequence[float], query: GoldenQuery, top_k: int) -> Scores:
    """Scores of what was found at each place, by the same definitions.

    :param gained: from :func:`include.evaluation.relevance.gains`.
    """
    places = [place for place, gain in enumerate(gained[:top_k], 1) if gain > 0]
    precisions = [found / place for found, place in enumerate(places, 1)]
    values = (
        ndcg(gained, query, top_k),
        recall(gained, query),
        1 / places[0] if places else 0.0,
        sum(precisions) / len(query.spans),
        len(places) / top_k,
    )
    return dict(zip(measure_names(top_k), values, strict=True))


def score_hits(rankings: Sequence[Sequence[Hit]], queries: Sequence[GoldenQuery], top_k: int) -> list[Scores]:
    """Scores of what was found for each query, best first, as its spans ask for it."""
    qrels = {str(n): grades for n, query in enumerate(queries) if (grades := whole_grades(query)) is not None}
    documents = {n: list(dict.fromkeys(hit.document for hit in rankings[int(n)]))[:top_k] for n in qrels}
    by_document = score_documents(documents, qrels, top_k) if qrels else {}
    return [
        by_document.get(str(n)) or score_gains(gains(hits, query, top_k), query, top_k)
        for n, (hits, query) in enumerate(zip(rankings, queries, strict=True))
    ]


def whole_grades(query: GoldenQuery) -> dict[str, int] | None:
    """Document → grade when the query asks for whole documents by whole grades, as qrels do; None otherwise."""
    if any(span.start is not None or span.grade != int(span.grade) for span in query.spans):
        return None
    return {span.document: int(span.grade) for span in query.spans}

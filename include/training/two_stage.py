"""What a reranker is worth behind the first stage: on the development questions, whose candidates are fetched once.

The final score blends both stages, and so the weight is fitted here too. Nearby weights differ by less than chance: the one
taken is the middle of those within one standard error of the best (:func:`include.evaluation.dense_weight.choose`). Golden
queries have no part in it; they judge.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from include.errors import BadData
from include.evaluation.configuration import Configuration, open_searcher
from include.evaluation.dense_weight import PLACES, WEIGHTS, choose
from include.evaluation.measures import Scores, measure_names, score_hits
from include.evaluation.relevance import covers
from include.retrieval.blend import blend
from include.retrieval.current import CurrentCollection
from include.retrieval.query import ALL_PRINCIPALS, Query
from include.retrieval.rerank import FirstStage, first_stage_of
from include.store import generations
from include.store.golden import GoldenQuery, GoldenSpan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from include.collection_file import Retrieval
    from include.config import Settings
    from include.progress import Progress
    from include.retrieval.searcher import Searcher
    from include.store.datasets import Pair
    from include.store.generations import Generation
    from include.store.pool import Pool
    from include.store.search import Hit
    from include.training.interruption import Interruption

logger = logging.getLogger(__name__)

SHOWN = 3 * PLACES  # chunks of the first stage that fill ten places, whatever is reranked


@dataclass(frozen=True, slots=True)
class Candidates:
    """What the first stage finds for one question.

    :param hits: best first; the reranker reads the first ``len(found)``.
    :param found: what it is told of them.
    """

    query: GoldenQuery
    hits: tuple[Hit, ...]
    found: tuple[FirstStage, ...]

    @property
    def texts(self) -> list[str]:
        """What the reranker reads."""
        return [hit.text for hit in self.hits[: len(self.found)]]


@dataclass(frozen=True, slots=True)
class TwoStage:
    """How good both stages are together.

    :param weight: the fitted share of the reranker's score.
    :param ndcg: nDCG@10 with it.
    :param details: for the manifest: measures of each stage alone, both blended, and the best order there could be.
    """

    weight: float
    ndcg: float
    details: dict[str, Any]


class FirstStageOf:
    """Asks the live index of a collection, as search does before the second stage; it stays with one generation.

    :param interruption: looked after between questions.
    """

    def __init__(self, settings: Settings, pool: Pool, name: str, interruption: Interruption) -> None:
        self._interruption = interruption
        with pool.connection() as connection:
            self.generation: Generation = generations.live_of(connection, name)
        collection = CurrentCollection(settings, name).get()
        if collection is None:
            raise BadData(f"collection {name!r}", "its file is gone, so nobody knows how it is searched", "Restore the file")
        self.retrieval: Retrieval = collection.retrieval
        asked = Configuration(self.generation.id, self.retrieval.mode, False, self.retrieval)
        self._searcher: Searcher = open_searcher(settings, pool, name, asked, self.generation.collection_id)

    def candidates(self, query: GoldenQuery, read: int) -> Candidates:
        """The candidates of one question.

        :param read: most that a reranker reads.
        """
        asked = Query(
            query.query, max(read, SHOWN), principals=ALL_PRINCIPALS, rerank=False, copies=True, neighbours=0
        )  # as an evaluation asks: everything counts, however often it stands there
        hits = tuple(self._searcher.find(asked).hits)
        return Candidates(query, hits, tuple(first_stage_of(hits[:read])))

    def all_candidates(self, queries: Sequence[GoldenQuery], read: int, what: str, progress: Progress) -> list[Candidates]:
        """Of many questions."""
        progress.step(f"candidates of {what}", len(queries))
        found = []
        for query in queries:
            self._interruption.check()
            found.append(self.candidates(query, read))
            progress.advance(1)
        logger.info("candidates of %d %s fetched", len(found), what)
        return found


def questions_of(pairs: Iterable[Pair], *, as_judged: bool = False) -> list[GoldenQuery]:
    """The questions of pairs with all their right passages, in order of arrival; those without one are left out.

    :param as_judged: qrels judge whole documents, so that any passage of them is right; otherwise the one in the pair is.
    """
    spans: dict[str, dict[tuple[str, int | None, int | None], GoldenSpan]] = defaultdict(dict)
    for pair in pairs:
        if pair.label > 0:
            whole = as_judged and pair.origin == "qrels"
            start, end = (None, None) if whole or pair.end is None else (pair.start, pair.end)
            spans[pair.query].setdefault((pair.uri, start, end), GoldenSpan(pair.uri, start, end, pair.label))
    return [GoldenQuery(query, tuple(found.values()), origin="dataset") for query, found in spans.items()]


def judge(candidates: Sequence[Candidates], scores: Sequence[Sequence[float]]) -> TwoStage:
    """Fit the weight, and score each stage alone and both together.

    :param candidates: of the development questions; at least one.
    :param scores: of each question's texts, by the reranker.
    """
    ndcg, queries = measure_names(PLACES)[0], [one.query for one in candidates]
    by_weight = {weight: score_hits(_blended(candidates, scores, weight), queries, PLACES) for weight in WEIGHTS}
    weight = choose({w: np.array([one[ndcg] for one in scored]) for w, scored in by_weight.items()})
    grades = [[_grade(hit, one.query) for hit in one.hits[: len(one.found)]] for one in candidates]
    oracle = score_hits(_blended(candidates, grades, 1.0), queries, PLACES)
    means = {w: _means(scored) for w, scored in by_weight.items()}
    details = {
        "questions": len(queries),
        "candidates": max(len(one.found) for one in candidates),
        "first_stage": means[0.0],
        "reranker": means[1.0],
        "blended": means[weight],
        "oracle": _means(oracle),
        "rerank_weight": weight,
        "curve": [{"rerank_weight": w, ndcg: mean[ndcg]} for w, mean in means.items()],
    }
    return TwoStage(weight, means[weight][ndcg], details)


def score_with(
    score: Callable[[str, Sequence[str], Sequence[FirstStage]], Sequence[float]],
    candidates: Sequence[Candidates],
    progress: Progress,
) -> list[list[float]]:
    """What a reranker says of all texts."""
    progress.step("score development questions", len(candidates))
    scores = []
    for one in candidates:
        scores.append([float(value) for value in score(one.query.query, one.texts, one.found)] if one.found else [])
        progress.advance(1)
    return scores


def _blended(candidates: Sequence[Candidates], scores: Sequence[Sequence[float]], weight: float) -> list[list[Hit]]:
    return [blend(one.hits, given, weight) for one, given in zip(candidates, scores, strict=True)]


def _grade(hit: Hit, query: GoldenQuery) -> float:
    return max((span.grade for span in query.spans if covers(hit, span)), default=0.0)


def _means(scored: Sequence[Scores]) -> dict[str, float]:
    return {name: round(float(np.mean([one[name] for one in scored])), 4) for name in measure_names(PLACES)}

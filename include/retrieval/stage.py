"""The second stage of a search: a reranker reads what the first found, as much as there is time for, and neighbours join."""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from include.errors import BadConfiguration
from include.indexing.estimate import host
from include.retrieval.blend import blend
from include.retrieval.budget import Allowance, allowance
from include.retrieval.neighbours import with_neighbours
from include.retrieval.rerank import first_stage_of
from include.retrieval.turns import turns_of
from include.store import reranking_rates
from include.store.pool import snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.collection_file import Retrieval
    from include.retrieval.rerank import FirstStage, Reranker
    from include.store.generations import Generation
    from include.store.pool import Pool
    from include.store.search import Hit

logger = logging.getLogger(__name__)

DEFAULT_WEIGHT = 0.5  # of a reranker that nobody fitted

_warmed: set[str] = set()
_warming = threading.Lock()


def second_stage(
    query_text: str,
    hits: Sequence[Hit],
    retrieval: Retrieval,
    reranker: Reranker | None,
    connection_pool: Pool,
    first_stage_seconds: float,
    top_k: int,
    *,
    held: Generation | None = None,
    demanded: bool = False,
) -> tuple[list[Hit], dict[str, Any], float]:
    """The ``top_k`` best passages, what the passport says of this stage, and the seconds that it took.

    :param hits: all that the first stage found, best first, copies folded; not cut to ``top_k``.
    :param reranker: None: the order stays.
    :param first_stage_seconds: what the search took so far, the embedding of the query included.
    :param held: the generation of the hits; needed for neighbours.
    :param demanded: read the first ``top_k`` in any case, also when the budget has no time for it.
    :return: the passport's part is ``{"reranker": {model, fingerprint, candidates, weight[, version][, reason]} | None}``,
        where the reason says why candidates were left out, and ``neighbours`` when some were asked for.
    """
    started = time.monotonic()
    ranked, part = list(hits), None
    if reranker is not None:
        ranked, part = _reranked(
            query_text, ranked, retrieval, reranker, connection_pool, first_stage_seconds, top_k if demanded else 0
        )
    passport: dict[str, Any] = {"reranker": part}
    if retrieval.neighbours and held is not None:
        with connection_pool.connection() as connection, snapshot(connection):
            ranked = with_neighbours(connection, held, ranked, retrieval.neighbours, top_k=top_k)
        passport["neighbours"] = retrieval.neighbours
    return ranked[:top_k], passport, time.monotonic() - started


def warm(reranker: Reranker) -> None:
    """Load the model, once a process, so that loading is not measured; a service does it before the first question."""
    if reranker.fingerprint in _warmed:
        return  # without the lock: another model may be loading, which takes seconds
    with _warming:
        if reranker.fingerprint not in _warmed:
            started = time.monotonic()
            reranker.score("first question", ["first passage"])
            _warmed.add(reranker.fingerprint)
            logger.info("reranker %s: ready after %.1f s", reranker.name, time.monotonic() - started)


@dataclass(slots=True)
class _Reading:
    """The candidates of one search, and what was read of them: at once, or at first a few to see how fast that is."""

    query: str
    texts: Sequence[str]
    found: Sequence[FirstStage]
    retrieval: Retrieval
    reranker: Reranker
    pace: float | None
    spent: float
    at_least: int
    allowed: Allowance = field(default_factory=lambda: Allowance(0))
    scores: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def run(self) -> None:
        """Read as much as there is time for."""
        turns = turns_of(self.reranker.fingerprint)
        while turns.take(self._more, self._read):
            if self.pace is not None:
                return
            self.pace = self.seconds / len(self.scores)
            self.spent += self.seconds

    def _more(self, ahead: int) -> int:
        self.allowed = allowance(
            self.retrieval.latency_budget_ms,
            self.spent,
            self.pace,
            wanted=len(self.texts),
            read=len(self.scores),
            ahead=ahead,
            at_least=self.at_least,
        )
        return self.allowed.candidates - len(self.scores)

    def _read(self, count: int) -> bool:
        warm(self.reranker)
        part = slice(len(self.scores), len(self.scores) + count)
        texts = self.texts[part]
        started = time.monotonic()
        scores = self.reranker.score(self.query, texts, self.found[part])
        self.seconds += time.monotonic() - started
        if len(scores) != len(texts) or not all(map(math.isfinite, scores)):
            raise BadConfiguration(
                f"reranker {self.reranker.name}",
                f"it gave {len(scores)} scores for {len(texts)} texts, or some that are no numbers",
                "Check its files, or leave the second stage out with retrieval.reranker: null",
            )
        self.scores += scores
        return True


def _reranked(
    query: str, hits: list[Hit], retrieval: Retrieval, reranker: Reranker, pool: Pool, spent: float, at_least: int
) -> tuple[list[Hit], dict[str, Any]]:
    candidates = hits[: retrieval.rerank_candidates]
    texts = [hit.text for hit in candidates]
    with pool.connection() as connection:
        pace = reranking_rates.seconds_per_pair(connection, host(), reranker.fingerprint)
    reading = _Reading(query, texts, first_stage_of(candidates), retrieval, reranker, pace, spent, at_least)
    reading.run()
    if reading.scores:
        with pool.connection() as connection:
            count = len(reading.scores)
            reranking_rates.save_rate(connection, host(), reranker.fingerprint, count, reading.seconds)
    weight = _weight(retrieval, reranker)
    part = {
        "model": reranker.name,
        "fingerprint": reranker.fingerprint,
        "candidates": len(reading.scores),
        "weight": weight,
    }
    if (version := getattr(reranker, "version", None)) is not None:  # of a champion
        part["version"] = version
    if reading.allowed.reason:
        part["reason"] = reading.allowed.reason
    return blend(hits, reading.scores, weight), part


def _weight(retrieval: Retrieval, reranker: Reranker) -> float:
    """The one that is set, or was fitted when the model was trained."""
    if retrieval.rerank_weight is not None:
        return retrieval.rerank_weight
    return DEFAULT_WEIGHT if reranker.weight is None else reranker.weight

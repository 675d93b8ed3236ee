"""Answers a question as a challenger would: a trained reranker that does not serve yet, or the index of a trained embedder."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.evaluation.configuration import FixedSearcher
from include.retrieval.rerank import open_reranker
from include.store import generations, shadow

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from include.collection_file import Collection
    from include.config import Settings
    from include.embedding.embedder import Embedder
    from include.retrieval.query import Found, Query
    from include.store.generations import Generation
    from include.store.pool import Pool
    from include.store.shadow import Challenger

LOOK_SECONDS = 30.0  # between two looks at who the challenger is


@dataclass(frozen=True, slots=True)
class Contestant:
    """A challenger that can be asked.

    :param index: of its embedder; None: it is a reranker, and reads what the live index finds.
    """

    run: Challenger
    index: Generation | None = None


class _SameVector(FixedSearcher):
    """The first stage of the live index with the vector that the question has already: the model is not asked again."""

    vector: NDArray[np.float32] | None = None

    def _embed(self, live: Generation, text: str) -> NDArray[np.float32]:
        return super()._embed(live, text) if self.vector is None else self.vector


class Challengers:
    """Who challenges what serves, by collection.

    :param embedder: instead of the models that made the generations' vectors.
    """

    def __init__(self, settings: Settings, pool: Pool, embedder: Embedder | None = None) -> None:
        self._settings, self._pool, self._embedder = settings, pool, embedder
        self._known: dict[int, tuple[float, Contestant | None]] = {}

    def of(self, collection: int) -> Contestant | None:
        """The newest one that can be asked; None: there is none."""
        looked, found = self._known.get(collection, (float("-inf"), None))
        if time.monotonic() - looked >= LOOK_SECONDS:
            found = self._look(collection)
            self._known[collection] = time.monotonic(), found
        return found

    def _look(self, collection: int) -> Contestant | None:
        with self._pool.connection() as connection:
            for run in shadow.challengers(connection, self._settings.environment, collection):
                if run.family == "reranker":
                    return Contestant(run)
                built = generations.candidates(connection, collection, run.run_key)
                if complete := [one for one in built if one.metrics.get("complete")]:
                    return Contestant(run, complete[-1])
        return None

    def ask(self, contestant: Contestant, collection: Collection, query: Query, found: Found) -> Found | None:
        """What the challenger finds.

        :param found: what was shown.
        :return: None: of this question the challenger would change nothing, or the live index has changed since.
        """
        if contestant.index is not None:
            if query.mode == "lexical":
                return None
            return FixedSearcher(
                self._settings, self._pool, collection.name, collection, contestant.index, self._embedder
            ).find(query)
        if query.rerank is False:
            return None
        with self._pool.connection() as connection:
            live = generations.live_of(connection, collection.name)
        if live.id != found.passport.get("generation"):
            return None
        reranker = open_reranker(contestant.run.artifact, self._settings)
        searcher = _SameVector(self._settings, self._pool, collection.name, collection, live, self._embedder, reranker=reranker)
        searcher.vector = found.vector
        return searcher.find(query)

"""Answers queries from the live generation, with the model that made its vectors."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg

from include.collection_file import NearDuplicates, Retrieval
from include.embedding.embedder import open_recorded, recorded_embedding
from include.errors import BadConfiguration
from include.retrieval.candidates import prepare
from include.retrieval.current import CurrentCollection
from include.retrieval.first_stage import passages
from include.retrieval.query import ALL_PRINCIPALS, Found, Query
from include.retrieval.rerank import open_reranker
from include.retrieval.stage import second_stage
from include.store import generations
from include.store.pool import snapshot
from include.store.scope import open_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from include.collection_file import Mode
    from include.config import Settings
    from include.embedding.embedder import Embedder
    from include.retrieval.candidates import Asked
    from include.retrieval.rerank import Reranker
    from include.store.generations import Generation
    from include.store.pool import Pool
    from include.store.search import Hit

CHUNKS_A_DOCUMENT = 3  # first guess of how many chunks show one document
MERGED = 2  # guess of how many hits become one passage with their neighbours


class Searcher:
    """Searches one collection, in any number of threads; keeps no state about which generation is live.

    :param embedder: instead of the one that made the generation's vectors.
    :param reranker: instead of the one in the collection's settings.
    :param wrap: put around the generation's embedder, for instance to batch what several threads ask.
    """

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        name: str,
        *,
        embedder: Embedder | None = None,
        reranker: Reranker | None = None,
        wrap: Callable[[Embedder], Embedder] = lambda embedder: embedder,
    ) -> None:
        self._settings, self._pool, self._name = settings, pool, name
        self._embedder, self._reranker, self._wrap = embedder, reranker, wrap
        self._current = CurrentCollection(settings, name)

    def find(self, query: Query) -> Found:
        """The passages that answer a query, best first.

        :raises BadData: the collection has no live index, or not the one that the mode needs.
        :raises BadConfiguration: a filter that is not understood, a model that is not there.
        """
        return self._on_live(partial(self._find, query))

    def search(
        self,
        text: str,
        *,
        top_k: int = 10,
        mode: Mode | None = None,
        filters: Mapping[str, Any] | None = None,
        principals: Sequence[str] = (),
        rerank: bool | None = None,
        copies: bool = False,
    ) -> tuple[list[Hit], dict[str, Any]]:
        """:meth:`find`, the hits and the passport alone."""
        found = self.find(Query(text, top_k, mode, filters or {}, principals, rerank, copies))
        return found.hits, found.passport

    def documents(
        self, text: str, *, top_k: int, mode: Mode | None = None, rerank: bool | None = None
    ) -> list[tuple[str, float]]:
        """Documents ranked by their best chunk: (uri, score), ``top_k`` of them if the index holds so many.

        Copies are not folded here, and ACLs not asked: a judged document is a document.
        """
        query = Query(text, CHUNKS_A_DOCUMENT * top_k, mode, {}, ALL_PRINCIPALS, rerank, copies=True, neighbours=0)
        while True:
            hits = self.find(query).hits
            best: dict[str, float] = {}
            for hit in hits:
                best.setdefault(hit.document, hit.score)
            if len(best) >= top_k or len(hits) < query.top_k:
                return list(best.items())[:top_k]
            query = replace(query, top_k=2 * query.top_k)

    def _on_live(self, find: Callable[[Generation], Found]) -> Found:
        """With the live generation; with the next one if it was swapped and dropped in between."""
        try:
            return find(self._live())
        except psycopg.errors.UndefinedTable:
            return find(self._live())

    def _live(self) -> Generation:
        with self._pool.connection() as connection:
            return generations.live_of(connection, self._name)

    def _find(self, query: Query, live: Generation) -> Found:
        started = time.monotonic()
        collection = self._current.get()
        retrieval = collection.retrieval if collection else Retrieval()
        if query.neighbours is not None:
            retrieval = retrieval.model_copy(update={"neighbours": query.neighbours})
        near_duplicates = collection.near_duplicates if collection else NearDuplicates()
        asked = prepare(query.text, live, retrieval, partial(self._embed, live), mode=query.mode)
        embedded = time.monotonic()
        reranker = self._second(query, retrieval)
        wanted = query.top_k * (MERGED if retrieval.neighbours else 1)
        with self._pool.connection() as connection, snapshot(connection):
            hits = passages(
                connection, live, asked, open_scope(connection, live, query.filters, query.principals),
                wanted=max(wanted, retrieval.rerank_candidates) if reranker else wanted,
                fold=None if query.copies else near_duplicates.threshold,
            )  # fmt: skip
        seconds = {"embed": embedded - started, "search": time.monotonic() - embedded}
        passport = self._passport(live, query, asked)
        hits, second, seconds["rerank"] = second_stage(
            query.text, hits, retrieval, reranker, self._pool, sum(seconds.values()), query.top_k,
            held=live, demanded=query.rerank is True,
        )  # fmt: skip
        return Found(hits, passport | second, seconds, asked.vector)

    def _embed(self, live: Generation, text: str) -> NDArray[np.float32]:
        model = self._embedder or open_recorded(live.embedder, recorded_embedding(live.spec), self._settings)
        return self._wrap(model).embed_query(text)

    def _second(self, query: Query, retrieval: Retrieval) -> Reranker | None:
        """The reranker of this query.

        :raises BadConfiguration: it was demanded and there is none.
        """
        if query.rerank is False:
            return None
        reranker = self._reranker or (
            open_reranker(retrieval.reranker, self._settings, self._pool, self._name) if retrieval.reranker else None
        )
        if reranker is None and query.rerank:
            raise BadConfiguration(
                f"{self._name} has no reranker", "none is set, or no champion has been promoted that could be opened",
                "Set retrieval.reranker to a model, promote one (ragworks models), or search without reranking",
            )  # fmt: skip
        return reranker

    def _passport(self, live: Generation, query: Query, asked: Asked) -> dict[str, Any]:
        embedder = {"model": live.spec["embedding"]["model"], "fingerprint": live.embedder}
        passport = {
            "collection": self._name,
            "generation": live.id,
            "mode": asked.mode,
            "embedder": embedder if asked.vector is not None else None,
            "lexical": live.spec["lexical"] if asked.terms is not None else None,
        }
        if asked.mode == "hybrid":
            passport["dense_weight"] = asked.dense_weight
        if asked.bm25 is None and query.mode != "dense":
            passport["note"] = "by meaning alone: this generation was built before words were indexed"
        return passport

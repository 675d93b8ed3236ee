"""Answers queries from the live generation, with the model that made its vectors."""

from __future__ import annotations

import logging
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import psycopg

from include.config import NearDuplicates, load_collection
from include.embedding.embedder import open_recorded, recorded_embedding
from include.errors import BadConfiguration
from include.retrieval.collapse import collapse
from include.store import collections, generations, search, signatures

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from include.config import Settings
    from include.embedding.embedder import Embedder
    from include.store.generations import Generation
    from include.store.pool import Pool
    from include.store.search import Hit

logger = logging.getLogger(__name__)

CHUNKS_A_DOCUMENT = 3  # first guess of how many chunks show one document
SPARE_HITS = 10  # fetched beyond what is asked for, so that folded copies rarely need another look


class Searcher:
    """Dense search over one collection; keeps no state about which generation is live.

    From which similarity on copies are folded is read from the collection file once.
    """

    def __init__(self, settings: Settings, pool: Pool, name: str, *, embedder: Embedder | None = None) -> None:
        self._settings, self._pool, self._name, self._embedder = settings, pool, name, embedder

    def search(
        self, query: str, *, top_k: int = 10, filters: Mapping[str, Any] | None = None, copies: bool = False
    ) -> tuple[list[Hit], dict[str, Any]]:
        """The chunks nearest to a query, best first, and the passport that says what answered.

        :param copies: show every chunk, also those that say the same as a better one.
        :raises BadData: the collection has no live index.
        """
        find = self._nearest if copies or self._threshold is None else self._distinct
        live, vector = self._embed(query)
        try:
            return find(live, vector, top_k, filters), self._passport(live)
        except psycopg.errors.UndefinedTable:  # the generation was swapped and dropped in between: take the new one
            live, vector = self._embed(query)
            return find(live, vector, top_k, filters), self._passport(live)

    def documents(self, query: str, *, top_k: int) -> list[tuple[str, float]]:
        """Documents ranked by their best chunk: (uri, score), ``top_k`` of them if the index holds so many.

        Copies are not folded here: a judged document is a document, whatever else says the same.
        """
        live, vector = self._embed(query)
        wanted = CHUNKS_A_DOCUMENT * top_k
        while True:
            hits = self._nearest(live, vector, wanted, None)
            best: dict[str, float] = {}
            for hit in hits:
                best.setdefault(hit.document, hit.score)
            if len(best) >= top_k or len(hits) < wanted:
                return list(best.items())[:top_k]
            wanted *= 2

    def _embed(self, query: str) -> tuple[Generation, NDArray[np.float32]]:
        """The live generation, and the query's vector by its model."""
        with self._pool.connection() as connection:
            live = generations.require_live(connection, collections.collection_id(connection, self._name), self._name)
        embedder = self._embedder or open_recorded(live.embedder, recorded_embedding(live.spec), self._settings)
        return live, embedder.embed_query(query)

    def _nearest(
        self, live: Generation, vector: NDArray[np.float32], top_k: int, filters: Mapping[str, Any] | None
    ) -> list[Hit]:
        with self._pool.connection() as connection, connection.transaction():
            connection.execute("set transaction isolation level repeatable read")
            return search.dense(connection, live, vector, top_k=top_k, filters=filters)

    def _distinct(
        self, live: Generation, vector: NDArray[np.float32], top_k: int, filters: Mapping[str, Any] | None
    ) -> list[Hit]:
        """As many different passages as are asked for, if the index holds so many; all from one snapshot."""
        threshold, wanted = self._threshold or 1.0, top_k + SPARE_HITS
        with self._pool.connection() as connection, connection.transaction():
            connection.execute("set transaction isolation level repeatable read")
            while True:
                hits = search.dense(connection, live, vector, top_k=wanted, filters=filters)
                uris = list({hit.document for hit in hits})
                shown = collapse(hits, partial(signatures.of_documents, connection, live, uris), threshold, top_k=top_k)
                if len(shown) >= top_k or len(hits) < wanted:
                    return shown
                wanted *= 2

    @cached_property
    def _threshold(self) -> float | None:
        """What the collection file says; what it says by default when the file is gone."""
        try:
            return load_collection(self._settings, self._name).near_duplicates.threshold
        except BadConfiguration as error:
            logger.warning("copies are folded as by default: %s", error)
            return NearDuplicates().threshold

    def _passport(self, live: Generation) -> dict[str, Any]:
        return {
            "collection": self._name,
            "generation": live.id,
            "mode": "dense",
            "embedder": {"model": live.spec["embedding"]["model"], "fingerprint": live.embedder},
        }

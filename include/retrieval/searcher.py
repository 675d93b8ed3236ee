"""Answers queries from the live generation, with the model that made its vectors."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import psycopg

from include.config import Embedding
from include.embedding.embedder import open_embedder
from include.errors import BadConfiguration
from include.store import collections, generations, search

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from include.config import Settings
    from include.embedding.embedder import Embedder
    from include.store.generations import Generation
    from include.store.pool import Pool
    from include.store.search import Hit


CHUNKS_A_DOCUMENT = 3  # first guess of how many chunks show one document


class Searcher:
    """Dense search over one collection; keeps no state about which generation is live."""

    def __init__(self, settings: Settings, pool: Pool, name: str, *, embedder: Embedder | None = None) -> None:
        self._settings, self._pool, self._name, self._embedder = settings, pool, name, embedder

    def search(
        self, query: str, *, top_k: int = 10, filters: Mapping[str, Any] | None = None
    ) -> tuple[list[Hit], dict[str, Any]]:
        """The chunks nearest to a query, best first, and the passport that says what answered.

        :raises BadData: the collection has no live index.
        """
        live, vector = self._embed(query)
        try:
            return self._nearest(live, vector, top_k, filters), self._passport(live)
        except psycopg.errors.UndefinedTable:  # the generation was swapped and dropped in between: take the new one
            live, vector = self._embed(query)
            return self._nearest(live, vector, top_k, filters), self._passport(live)

    def documents(self, query: str, *, top_k: int) -> list[tuple[str, float]]:
        """Documents ranked by their best chunk: (uri, score), ``top_k`` of them if the index holds so many."""
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
        embedder = self._embedder or _embedder_of(live, self._settings)
        return live, embedder.embed_query(query)

    def _nearest(
        self, live: Generation, vector: NDArray[np.float32], top_k: int, filters: Mapping[str, Any] | None
    ) -> list[Hit]:
        with self._pool.connection() as connection, connection.transaction():
            connection.execute("set transaction isolation level repeatable read")
            return search.dense(connection, live, vector, top_k=top_k, filters=filters)

    def _passport(self, live: Generation) -> dict[str, Any]:
        return {
            "collection": self._name,
            "generation": live.id,
            "mode": "dense",
            "embedder": {"model": live.spec["embedding"]["model"], "fingerprint": live.embedder},
        }


def _embedder_of(live: Generation, settings: Settings) -> Embedder:
    """The model that made a generation's vectors, whatever the collection file says by now."""
    return _open(
        live.embedder,
        Embedding.model_validate({k: v for k, v in live.spec["embedding"].items() if k != "fingerprint"}),
        settings,
    )


@lru_cache(maxsize=4)
def _open(fingerprint: str, embedding: Embedding, settings: Settings) -> Embedder:
    embedder = open_embedder(embedding, settings)
    if embedder.fingerprint != fingerprint:
        raise BadConfiguration(
            f"the model {embedding.model!r} is not the one that the live index was made with",
            "its files changed", "Restore them, or run the index again to build a new generation",
        )  # fmt: skip
    return embedder

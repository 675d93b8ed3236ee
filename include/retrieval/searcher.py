"""Answers queries from the live generation, with the model that made its vectors."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import psycopg

from include.config import Embedding
from include.embedding.embedder import open_embedder
from include.errors import BadConfiguration, BadData
from include.store import collections, generations, search

if TYPE_CHECKING:
    from collections.abc import Mapping

    from include.config import Settings
    from include.embedding.embedder import Embedder
    from include.store.generations import Generation
    from include.store.pool import Connection, Pool
    from include.store.search import Hit


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
        try:
            return self._search(query, top_k, filters)
        except psycopg.errors.UndefinedTable:
            return self._search(query, top_k, filters)  # the generation was swapped and dropped in between: take the new one

    def documents(self, query: str, *, top_k: int) -> list[tuple[str, float]]:
        """Documents ranked by their best chunk: (uri, score), ``top_k`` of them if the index holds so many."""
        wanted, best = top_k, dict[str, float]()
        while True:
            hits, _ = self.search(query, top_k=wanted)
            for hit in hits:
                best.setdefault(hit.document, hit.score)
            if len(best) >= top_k or len(hits) < wanted:
                return list(best.items())[:top_k]
            wanted, best = wanted * 2, {}

    def _search(self, query: str, top_k: int, filters: Mapping[str, Any] | None) -> tuple[list[Hit], dict[str, Any]]:
        with self._pool.connection() as connection:
            live = self._live(connection)
        embedder = self._embedder or _embedder_of(live, self._settings)
        vector = embedder.embed_query(query)
        with self._pool.connection() as connection, connection.transaction():
            connection.execute("set transaction isolation level repeatable read")
            hits = search.dense(connection, live, vector, top_k=top_k, filters=filters)
        passport = {
            "collection": self._name,
            "generation": live.id,
            "mode": "dense",
            "embedder": {"model": live.spec["embedding"]["model"], "fingerprint": live.embedder},
        }
        return hits, passport

    def _live(self, connection: Connection) -> Generation:
        live = generations.live_generation(connection, collections.collection_id(connection, self._name))
        if live is None:
            raise BadData(
                f"collection {self._name!r} has no live index",
                "no run has been published",
                f"Run: ragworks index {self._name}",
            )
        return live


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

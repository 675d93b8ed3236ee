"""First stage: the chunks that may answer a query, by meaning, by words or by both, ranked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from include.errors import BadData
from include.lexical import bm25
from include.retrieval.fusion import fuse
from include.store import lexical, scope, search

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from include.collection_file import Mode, Retrieval
    from include.lexical.bm25 import BM25
    from include.store.generations import Generation
    from include.store.lexical import Key, Words
    from include.store.pool import Connection
    from include.store.scope import Scope

MOST_TERMS = 1000  # of a query, the weightiest: Postgres selects at most 1664 columns, and one looks a term up
Ranked = tuple["Key", float, dict[str, float]]  # chunk, score, parts of the score


@dataclass(frozen=True, slots=True)
class Asked:
    """A query, ready for a generation.

    :param vector: None in lexical mode.
    :param terms: term → count; None in dense mode.
    :param bm25: how the terms are weighted.
    :param depth: candidates that each way brings at least, and by which their scores are scaled.
    """

    mode: Mode
    vector: NDArray[np.float32] | None
    terms: Mapping[int, int] | None
    bm25: BM25 | None
    dense_weight: float
    depth: int


def prepare(
    text: str, held: Generation, retrieval: Retrieval, embed: Callable[[str], NDArray[np.float32]], *, mode: Mode | None = None
) -> Asked:
    """The query as the generation understands it: by meaning alone where words were not indexed.

    :param mode: instead of the one in the settings.
    :param embed: with the model that made the generation's vectors; not called in lexical mode.
    :raises BadData: lexical mode, and words were not indexed.
    """
    mode, weights = mode or retrieval.mode, bm25.recorded(held.spec)
    if weights is None and mode == "lexical":
        raise BadData(f"generation {held.id} has no lexical index", "an earlier release built it", "Run: ragworks index NAME")
    if weights is None:
        mode = "dense"
    return Asked(
        mode,
        vector=None if mode == "lexical" else embed(text),
        terms=weights.analyzer.terms(text) if weights and mode != "dense" else None,
        bm25=weights,
        dense_weight=retrieval.dense_weight,
        depth=retrieval.candidates,
    )


def candidates(connection: Connection, held: Generation, asked: Asked, seen: Scope, *, depth: int, sure: int) -> list[Ranked]:
    """Chunks with their scores, best first; each of the two ways brings up to ``depth``.

    :param depth: at least ``asked.depth``.
    :param sure: so many of the best by words are certainly the best.
    """
    words = _words(connection, held, asked)
    keys: set[Key] = set()
    if asked.vector is not None:
        matching = scope.matching_chunks(connection, seen, most=search.exact_up_to(seen.total) + 1)  # no further than needed
        keys.update(search.nearest(connection, held, asked.vector, seen, limit=depth, matching=matching))
    if words is not None:
        keys.update(lexical.best(connection, held, words, seen, limit=depth, sure=min(sure, depth)))
    rows = search.scores(connection, held, list(keys), asked.vector, words)
    parts = [
        {name: value for name, value in (("dense", dense), ("lexical", words_)) if value is not None}
        for _, dense, words_ in rows
    ]
    total = _totals(parts, asked)
    similar = np.array([part.get("dense", 0.0) for part in parts])
    order = np.lexsort((-similar, -total))  # further ties stay ordered by document and place
    return [(rows[i][0], float(total[i]), parts[i]) for i in order]


def _totals(parts: list[dict[str, float]], asked: Asked) -> NDArray[np.float64]:
    if asked.mode != "hybrid":
        return np.array([part[asked.mode] for part in parts], dtype=np.float64)
    dense, lexical_ = (np.array([part.get(name, 0.0) for part in parts], dtype=np.float64) for name in ("dense", "lexical"))
    return fuse(dense, lexical_, asked.dense_weight, asked.depth)


def _words(connection: Connection, held: Generation, asked: Asked) -> Words | None:
    if asked.terms is None or asked.bm25 is None:
        return None
    counted = lexical.chunks_with(connection, held, asked.terms)
    weights = asked.bm25.query(asked.terms, counted, counted.get(lexical.ALL_CHUNKS, 0))
    if len(weights) > MOST_TERMS:
        weights = dict(sorted(weights.items(), key=lambda item: -item[1])[:MOST_TERMS])
    return lexical.Words(weights, counted) if weights else None

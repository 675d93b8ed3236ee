"""Finds chunks of a generation by vector, scores them, and reads what they say.

How the vectors are looked through depends on how many chunks a query may see (:func:`choose_scan`): all of them, which
misses none, or along the HNSW index, which is quick on many and misses nearly everything where few may be seen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pgvector import HalfVector, Vector
from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    import numpy as np
    from numpy.typing import NDArray
    from psycopg.sql import Composable

    from include.store.generations import Generation
    from include.store.lexical import Key, Words
    from include.store.pool import Connection
    from include.store.scope import Scope

EXACT_CHUNKS, EXACT_SHARE = 20_000, 0.01  # up to so many, or such a share, every vector is looked at (bench/filtered.py)
EF_SEARCH = 400  # recall@10 0.993 on the 34,804 chunks of medquad, of which 200 finds 0.988 (bench/retrieval.py)
MAX_EF_SEARCH = 1000  # pgvector's limit
SCANNED_AT_LEAST = 20_000  # chunks that an iterative scan may visit: pgvector's default
PATIENCE = 4  # times as many chunks as chance would need are visited along the index; then all that may be seen are

_LOOKED_UP = sql.SQL(" cross join lateral (select {} offset 0) w")

Scan = Literal["exact", "index"]


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Where else a passage stands, and how well it was found there."""

    document: str
    ordinal: int
    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class Hit:
    """One passage found: a chunk, or several that touch.

    :param score: what it is ranked by.
    :param duplicates: other places that say the same.
    :param scores: parts of the score by name: ``dense`` (cosine similarity, -1 to 1), ``lexical`` (BM25), ``rerank``.
    :param content_hash: of the document's text.
    :param run: id of the run that wrote it.
    """

    document: str
    ordinal: int
    start: int
    end: int
    text: str
    score: float
    metadata: dict[str, Any]
    duplicates: tuple[Duplicate, ...] = ()
    scores: dict[str, float] = field(default_factory=dict)
    content_hash: UUID | None = None
    run: int | None = None


def choose_scan(matching: int, total: int) -> Scan:
    """How to look through vectors.

    :param matching: chunks that may be seen.
    :param total: chunks there are.
    """
    return "exact" if matching <= exact_up_to(total) else "index"


def exact_up_to(total: int) -> int:
    """So many chunks are looked at one by one, of so many there are."""
    return max(EXACT_CHUNKS, int(EXACT_SHARE * total))


def nearest(
    connection: Connection, held: Generation, query: NDArray[np.float32], scope: Scope, *, limit: int, matching: int
) -> list[Key]:
    """The chunks nearest to a query vector of shape (dimension,), in no order; in the caller's transaction.

    Along the index, the nearest of all are visited until there are enough that may be seen. Where these lie far from the query
    it would meet them late and miss many, so it is left for an exact scan when there should long have been enough.

    :param matching: chunks that may be seen.
    """
    scan = choose_scan(matching, scope.total)
    if scan == "index":
        visited = limit if scope.condition is None else PATIENCE * limit * max(scope.total, matching) // max(matching, 1)
        _widen_scan(connection, limit, visited)
        chunks = sql.SQL("(select document_id, seq from {} order by embedding <=> %(query)s limit %(visited)s) c{}").format(
            held.chunks, scope.checked
        )
        found = _nearest(connection, held, query, scope, chunks, limit=limit, visited=visited)
        if len(found) >= limit:
            return found
    joined, allowed = (scope.joined, scope.allowed) if scan == "index" else (sql.SQL(""), scope.looked_up)
    # An expression is no index order: the addition keeps the planner from HNSW.
    chunks = sql.SQL("{} c{} where true{} order by (c.embedding <=> %(query)s) + 0").format(held.chunks, joined, allowed)
    return _nearest(connection, held, query, scope, chunks, limit=limit)


def _nearest(
    connection: Connection, held: Generation, query: NDArray[np.float32], scope: Scope, chunks: Composable, **counts: int
) -> list[Key]:
    statement = sql.SQL("select c.document_id, c.seq from {} limit %(limit)s").format(chunks)
    return connection.execute(statement, {"query": as_vector(held, query), **counts, **scope.values}).fetchall()


def scores(
    connection: Connection, held: Generation, keys: Sequence[Key], query: NDArray[np.float32] | None, words: Words | None
) -> list[tuple[Key, float | None, float | None]]:
    """(chunk, cosine similarity, BM25) of these chunks, ordered by document and place; None for what was not asked."""
    dense: Composable = sql.SQL("null::float8" if query is None else "1 - (c.embedding <=> %(query)s)")
    lexical: Composable = sql.SQL("null::float8") if words is None else words.score(held)
    statement = sql.SQL(
        "select c.document_id, c.seq, {dense}, {lexical} from unnest(%(documents)s::bigint[], %(seqs)s::int[]) as k (d, s)"
        " join {chunks} c on c.document_id = k.d and c.seq = k.s"
        " join {spans} s on s.document_id = k.d and s.seq = k.s"
        " join ragworks.document d on d.id = k.d{words} order by d.uri, s.ordinal"
    ).format(
        dense=dense, lexical=lexical, chunks=held.chunks, spans=held.spans,
        words=sql.SQL("") if words is None else _LOOKED_UP.format(words.columns(held)),
    )  # fmt: skip
    parameters = {
        "documents": [d for d, _ in keys], "seqs": [s for _, s in keys],
        "query": None if query is None else as_vector(held, query), **(words.parameters(held) if words else {}),
    }  # fmt: skip
    return [((d, s), similarity, bm25) for d, s, similarity, bm25 in connection.execute(statement, parameters)]


def read(
    connection: Connection, held: Generation, ranked: Sequence[tuple[Key, float, Mapping[str, float]]], scope: Scope
) -> list[Hit]:
    """What these chunks say, in the given order; of documents that may not be seen, nothing.

    :param ranked: chunk, score, parts of the score.
    """
    statement = sql.SQL(
        "select k.n, d.uri, s.ordinal, s.start_char, s.end_char,"
        " substr(t.text, s.start_char + 1, s.end_char - s.start_char), g.metadata || coalesce(s.metadata, '{{}}'),"
        " g.content_hash, g.run_id"
        " from unnest(%(documents)s::bigint[], %(seqs)s::int[]) with ordinality as k (d, s, n)"
        " join {spans} s on s.document_id = k.d and s.seq = k.s"
        " join ragworks.generation_document g on g.generation_id = %(generation)s and g.document_id = k.d and not g.staged"
        " join ragworks.document d on d.id = k.d"
        " join ragworks.document_text t on t.collection_id = d.collection_id and t.content_hash = g.content_hash"
        " where {visible} order by k.n"
    ).format(spans=held.spans, visible=scope.visible)
    keys = [key for key, _, _ in ranked]
    parameters = {"documents": [d for d, _ in keys], "seqs": [s for _, s in keys], **scope.values}
    found = connection.execute(statement, parameters).fetchall()
    return [
        Hit(uri, ordinal, start, end, text, ranked[n - 1][1], metadata, (), dict(ranked[n - 1][2]), content, run)
        for n, uri, ordinal, start, end, text, metadata, content, run in found
    ]


def as_vector(held: Generation, query: NDArray[np.float32]) -> HalfVector | Vector:
    """The query in the type of the generation's vectors."""
    return HalfVector(query) if held.storage == "halfvec" else Vector(query)


def _widen_scan(connection: Connection, limit: int, visited: int) -> None:
    """Settings of the index scan, for this transaction.

    Relaxed order misses less than strict order, which drops what it meets late; the chunks are scored and sorted again anyway.
    """
    ef_search = min(max(EF_SEARCH, 2 * limit), MAX_EF_SEARCH)
    connection.execute(
        "select set_config('hnsw.ef_search', %s, true), set_config('hnsw.iterative_scan', 'relaxed_order', true),"
        " set_config('hnsw.max_scan_tuples', %s, true)",
        (str(ef_search), str(max(SCANNED_AT_LEAST, 2 * visited))),
    )

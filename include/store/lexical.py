"""Words in a generation: how many chunks have each, and which chunks score best for a query's.

A chunk's weights are a sparsevec beside its vector; the score is their inner product with the query's. An index over such
vectors that is only nearly exact would lose right answers (docs/decisions/0015), so candidates come from an inverted index
(GIN) over the terms, rarest first, and are scored exactly; they are enough once no chunk outside can score higher.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgvector import SparseVector
from psycopg import sql

from include.lexical.terms import MAX_TERM

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from include.store.generations import Generation
    from include.store.pool import Connection
    from include.store.scope import Scope

ALL_CHUNKS = 0  # the term that every chunk has: its count is the number of chunks
FIRST_CANDIDATES, GROWTH = 2000, 4  # chunks scored at first, and how many times more when these are not enough

Key = tuple[int, int]  # document id and seq of a chunk


def index_terms(connection: Connection, built: Generation) -> None:
    """Index the words of loaded chunks and count them; from then on the server counts whatever is written. Once."""
    names = {
        "chunks": built.chunks, "terms": built.terms, "index": sql.Identifier(f"chunks_{built.id}_terms"),
    }  # fmt: skip
    connection.execute(
        sql.SQL("create index {index} on {chunks} using gin (ragworks.terms(lexical)) with (fastupdate = off)").format(**names)
    )
    connection.execute(
        sql.SQL(
            "insert into {terms} select term, count(*) from {chunks}, unnest(ragworks.terms(lexical) || 0) term group by term"
        ).format(**names)
    )
    for event, changed in (("insert", "new"), ("delete", "old")):
        connection.execute(
            sql.SQL(
                "create trigger {} after {} on {chunks} referencing {} table as changed"
                " for each statement execute function ragworks.count_terms({table})"
            ).format(
                sql.Identifier(f"count_{event}"), sql.SQL(event), sql.SQL(changed), table=sql.Literal(f"terms_{built.id}"),
                **names,
            )
        )  # fmt: skip
    connection.execute(sql.SQL("analyze {terms}").format(**names))


def chunks_with(connection: Connection, held: Generation, terms: Iterable[int]) -> dict[int, int]:
    """Term → how many chunks have it, with :data:`ALL_CHUNKS`."""
    statement = sql.SQL("select term, chunks from {} where term = any(%s)").format(held.terms)
    return dict(connection.execute(statement, ([ALL_CHUNKS, *terms],)).fetchall())


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a query.

    :param weights: term → weight, which no chunk's score by that term exceeds.
    :param chunks_with: term → how many chunks have it.
    """

    weights: Mapping[int, float]
    chunks_with: Mapping[int, int]

    @property
    def vector(self) -> SparseVector:
        """As pgvector takes it, which numbers from 0."""
        return SparseVector({term - 1: weight for term, weight in self.weights.items()}, MAX_TERM)


def best(connection: Connection, held: Generation, words: Words, scope: Scope, *, limit: int, sure: int) -> list[Key]:
    """The chunks that score best, best first; the first ``sure`` are certainly the best there are.

    Terms are taken from the rarest on. A chunk with none of those taken scores at most the weights of the others together:
    when that many chunks score higher, no other needs a look (Turtle and Flood 1995, "Query evaluation: strategies and
    optimizations").
    """
    rarest_first = sorted(words.weights, key=lambda term: (words.chunks_with[term], term))
    candidates = FIRST_CANDIDATES
    while rarest_first:
        taken = _within(rarest_first, words.chunks_with, candidates)
        found = _best_with(connection, held, words, scope, rarest_first[:taken], limit)
        outside = sum(words.weights[term] for term in rarest_first[taken:])
        if taken == len(rarest_first) or (len(found) >= sure and found[sure - 1][1] >= outside):
            return [key for key, _ in found]
        candidates *= GROWTH
    return []


def _within(rarest_first: Sequence[int], chunks_with: Mapping[int, int], candidates: int) -> int:
    """How many of these terms have so many chunks together; at least one."""
    total = 0
    for position, term in enumerate(rarest_first):
        total += chunks_with[term]
        if position and total > candidates:
            return position
    return len(rarest_first)


def _best_with(
    connection: Connection, held: Generation, words: Words, scope: Scope, terms: Sequence[int], limit: int
) -> list[tuple[Key, float]]:
    statement = sql.SQL(
        "select c.document_id, c.seq, -(c.lexical <#> %(words)s) as score from {chunks} c{joined}"
        " where ragworks.terms(c.lexical) && %(terms)s{allowed} order by score desc, c.document_id, c.seq limit %(limit)s"
    ).format(chunks=held.chunks, joined=scope.joined, allowed=scope.allowed)
    parameters = {"words": words.vector, "terms": list(terms), "limit": limit, **scope.values}
    return [((d, s), score) for d, s, score in connection.execute(statement, parameters)]

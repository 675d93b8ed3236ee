"""Words in a generation: how many chunks have each, and which chunks score best for a query's.

A chunk's words are packed beside its vector (docs/decisions/0017), in generations of earlier releases as a sparsevec of their
weights. An index that is only nearly exact would lose right answers (docs/decisions/0015), so candidates come from an inverted
index (GIN) over the terms, rarest first, and are scored exactly; they are enough once no chunk outside can score higher.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgvector import SparseVector
from psycopg import sql

from include.lexical import bm25, packed
from include.lexical.terms import MAX_TERM

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from psycopg.sql import Composable

    from include.store.generations import Generation
    from include.store.pool import Connection
    from include.store.scope import Scope

ALL_CHUNKS = 0  # the term that every chunk has: its count is the number of chunks
FIRST_CANDIDATES, GROWTH = 1000, 4  # chunks scored at first, and how many times more when these are too few to tell
PASS_BYTES = 5  # of memory for each posting, of some 9 that a build in one pass takes; 5 to 5.6 gave the smallest index
LEAST_PASS_KB, MOST_PASS_KB = 1024, 512 * 1024

Key = tuple[int, int]  # document id and seq of a chunk


def index_terms(connection: Connection, built: Generation) -> None:
    """Index the words of loaded chunks and count them; from then on the server counts whatever is written. Once."""
    names = {
        "chunks": built.chunks, "terms": built.terms, "index": sql.Identifier(f"chunks_{built.id}_terms"),
    }  # fmt: skip
    connection.execute(
        sql.SQL(
            "insert into {terms} select term, count(*) from {chunks}, unnest(ragworks.terms(lexical) || 0) term"
            " group by term order by term"
        ).format(**names)
    )
    _build_in_two_passes(connection, built)
    connection.execute(
        sql.SQL("create index {index} on {chunks} using gin (ragworks.terms(lexical)) with (fastupdate = off)").format(**names)
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


def _build_in_two_passes(connection: Connection, built: Generation) -> None:
    """Settings of the GIN build, for this transaction.

    In one pass terms arrive in ascending order, and each page that is full is split in the middle and never filled again: the
    index is half empty (entrySplitPage in Postgres' ginentrypage.c). A build whose memory holds a little more than half of
    the postings writes them in two passes, and the second fills the pages.
    """
    statement = sql.SQL("select coalesce(sum(chunks), 0) from {} where term <> %s").format(built.terms)
    row = connection.execute(statement, (ALL_CHUNKS,)).fetchone()
    kilobytes = int(row[0] if row else 0) * PASS_BYTES // 1024
    connection.execute(
        "select set_config('maintenance_work_mem', %s, true), set_config('max_parallel_maintenance_workers', '0', true)",
        (f"{min(max(kilobytes, LEAST_PASS_KB), MOST_PASS_KB)}kB",),
    )


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

    def columns(self, held: Generation) -> Composable:
        """What :meth:`score` needs of a row ``c`` of the generation's chunks, to be selected as ``w``, with ``offset 0``.

        Packed words are sorted: the last entry up to a term's largest is its own, or smaller where the chunk lacks the term.
        Each is looked up once for all its uses: without the offset the planner would write it out in every place.
        """
        settings = bm25.recorded(held.spec)
        if not held.packed or settings is None:
            return sql.SQL("c.lexical")
        norm = sql.SQL("c.lexical, {} + {} * (c.lexical[cardinality(c.lexical)] - {}) as norm").format(
            *map(_float, settings.norm), sql.Literal(packed.LENGTH_BASE)
        )
        entry = sql.SQL("c.lexical[width_bucket({}, c.lexical)] as {}")
        last = [packed.entry(term, packed.INLINE) for term in sorted(self.weights)]
        entries = [entry.format(sql.Literal(value), sql.Identifier(f"t{n}")) for n, value in enumerate(last)]
        return sql.SQL(", ").join([norm, *entries])

    def score(self, held: Generation) -> Composable:
        """BM25 as SQL over :meth:`columns`, with :meth:`parameters`."""
        if not held.packed:
            return sql.SQL("-(w.lexical <#> %(words)s)")
        return sql.SQL(" + ").join(_part(n, *weighed) for n, weighed in enumerate(sorted(self.weights.items())))

    def parameters(self, held: Generation) -> dict[str, SparseVector]:
        """What :meth:`score` needs: a generation's sparsevec, in which pgvector numbers from 0, is multiplied with another."""
        if held.packed:
            return {}
        return {"words": SparseVector({term - 1: weight for term, weight in self.weights.items()}, MAX_TERM)}


def _float(value: float) -> Composable:
    """A bare 0.5 would be a numeric, and reckoned with ten times slower."""
    return sql.SQL("{}::float8").format(sql.Literal(value))


def _part(n: int, term: int, weight: float) -> Composable:
    """What a term adds: weight * count / (count + norm), where the entry found is the term's."""
    once, often = packed.entry(term, 1), packed.entry(term, packed.INLINE)
    return sql.SQL(
        "case when w.{t} >= {once} then {weight} / (1 + w.norm / case when w.{t} < {often} then w.{t} - {before}"
        " else {mask} & (w.lexical[width_bucket({base} + {step} * width_bucket({often}, w.lexical), w.lexical)] - {count})"
        " end) else 0 end"
    ).format(
        t=sql.Identifier(f"t{n}"), once=sql.Literal(once), often=sql.Literal(often), before=sql.Literal(once - 1),
        weight=_float(weight), mask=sql.Literal(packed.MAX_COUNT), count=sql.Literal(packed.COUNT_BASE),
        base=sql.Literal(packed.COUNT_BASE + packed.MAX_COUNT), step=sql.Literal(packed.COUNT_STEP),
    )  # fmt: skip


def best(connection: Connection, held: Generation, words: Words, scope: Scope, *, limit: int, sure: int) -> list[Key]:
    """The chunks that score best, best first; the first ``sure`` are certainly the best there are.

    Terms are taken from the rarest on. A chunk with none of those taken scores at most the weights of the others together:
    when that many chunks score higher, no other needs a look (Turtle and Flood 1995, "Query evaluation: strategies and
    optimizations"). What the first of them score tells how many terms are enough: more chunks only raise it.
    """
    rarest_first = sorted(words.weights, key=lambda term: (words.chunks_with[term], term))
    # The planner takes the score for so dear that it would start processes, which takes longer than most queries.
    connection.execute("select set_config('max_parallel_workers_per_gather', '0', true)")
    candidates, taken = FIRST_CANDIDATES, _within(rarest_first, words.chunks_with, FIRST_CANDIDATES)
    while rarest_first:
        found = _best_with(connection, held, words, scope, rarest_first[:taken], limit)
        if taken == len(rarest_first):
            return [key for key, _ in found]
        if len(found) < sure:  # nothing to tell by how many are needed
            candidates *= GROWTH
            taken = max(taken + 1, _within(rarest_first, words.chunks_with, candidates))
            continue
        enough = _enough(words, rarest_first, found[sure - 1][1])
        if taken >= enough:
            return [key for key, _ in found]
        taken = enough
    return []


def _enough(words: Words, rarest_first: Sequence[int], score: float) -> int:
    """How many terms must be taken so that no chunk without any of them scores more than this."""
    outside = 0.0
    for taken in range(len(rarest_first), 0, -1):
        outside += words.weights[rarest_first[taken - 1]]
        if outside > score:
            return taken
    return 0


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
        "select w.document_id, w.seq, {score} as score from (select c.document_id, c.seq, {columns} from {chunks} c{joined}"
        " where ragworks.terms(c.lexical) && %(terms)s{allowed} offset 0) w"
        " order by score desc, w.document_id, w.seq limit %(limit)s"
    ).format(
        score=words.score(held), columns=words.columns(held), chunks=held.chunks, joined=scope.joined, allowed=scope.allowed
    )
    parameters = {"terms": list(terms), "limit": limit, **words.parameters(held), **scope.values}
    return [((d, s), score) for d, s, score in connection.execute(statement, parameters)]

"""What two generations of a collection can both be asked for: fair questions for a comparison."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from psycopg import sql

from include.store.golden import GoldenQuery, GoldenSpan

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from include.store.generations import Generation
    from include.store.pool import Connection

LOST = -1  # of a span whose text is no longer in its document


def usable_queries(connection: Connection, collection: int, built: int, live: int | None, *, limit: int) -> list[GoldenQuery]:
    """Golden queries with only those spans that two generations can both be asked for; a query may be left with none.

    The document is wanted and held by both, for characters also with the same content, and the text is still there: a
    span that moved is given where it is now.

    :param live: None asks ``built`` alone.
    :param limit: most queries; of more, always the same ones.
    """
    rows = connection.execute(_USABLE, {"c": collection, "built": built, "live": live, "limit": limit})
    queries = []
    for _, group in groupby(rows, key=lambda row: row[0]):
        found = list(group)
        _, query, origin, metadata, answer, *_ = found[0]
        spans = tuple(_located(*row[5:]) for row in found if row[5] is not None and row[6] != LOST)
        queries.append(GoldenQuery(query, spans, metadata, origin, answer=answer))
    return queries


def sample_documents(
    connection: Connection, collection: int, built: int, live: int, *, limit: int, characters: int
) -> list[tuple[str, str]]:
    """(uri, the beginning of its text) of documents that two generations hold alike: always the same ones."""
    parameters = {"c": collection, "built": built, "live": live, "limit": limit, "characters": characters}
    return [(str(uri), str(text)) for uri, text in connection.execute(_DOCUMENTS, parameters)]


def some_vectors(connection: Connection, held: Generation, *, limit: int) -> list[tuple[str, NDArray[np.float32]]]:
    """(text, vector of shape (dimension,)) of a few chunks."""
    rows = connection.execute(sql.SQL(_VECTORS).format(chunks=held.chunks, spans=held.spans), {"g": held.id, "limit": limit})
    return [(str(text), vector.to_numpy().astype(np.float32)) for text, vector in rows]


def _located(uri: str, start: int | None, length: int | None, grade: float) -> GoldenSpan:
    return GoldenSpan(uri, start, None if start is None or length is None else start + length, grade)


_USABLE = """
with shared as (
    select d.uri, b.content_hash, b.content_hash = coalesce(l.content_hash, b.content_hash) as same
    from ragworks.desired_document d
    join ragworks.generation_document b on b.generation_id = %(built)s and b.document_id = d.id and not b.staged
    left join ragworks.generation_document l on l.generation_id = %(live)s and l.document_id = d.id and not l.staged
    where d.collection_id = %(c)s and d.wanted and (l.document_id is not null or %(live)s::bigint is null))
select q.id, q.query, q.origin, q.metadata, q.answer, d.uri,
    case when s.start_char is null or s.quote is null or substr(t.text, s.start_char + 1, length(s.quote)) = s.quote
        then s.start_char else strpos(t.text, s.quote) - 1 end,
    s.end_char - s.start_char, s.grade
from (select * from ragworks.golden_query where collection_id = %(c)s and answerable order by query_hash limit %(limit)s) q
join ragworks.golden_span s on s.golden_query_id = q.id
left join shared d on d.uri = s.uri and (s.start_char is null or d.same)
left join ragworks.document_text t on s.start_char is not null and t.collection_id = %(c)s and t.content_hash = d.content_hash
order by q.query_hash, s.uri, s.start_char nulls first
"""

_VECTORS = """
select substr(t.text, s.start_char + 1, s.end_char - s.start_char), c.embedding
from {chunks} c join {spans} s using (document_id, seq)
join ragworks.generation_document h on h.generation_id = %(g)s and h.document_id = c.document_id and not h.staged
join ragworks.document d on d.id = c.document_id
join ragworks.document_text t on t.collection_id = d.collection_id and t.content_hash = h.content_hash
limit %(limit)s
"""

_DOCUMENTS = """
select d.uri, left(t.text, %(characters)s)
from ragworks.desired_document d
join ragworks.generation_document b on b.generation_id = %(built)s and b.document_id = d.id and not b.staged
join ragworks.generation_document l
    on l.generation_id = %(live)s and l.document_id = d.id and not l.staged and l.content_hash = b.content_hash
join ragworks.document_text t on t.collection_id = d.collection_id and t.content_hash = b.content_hash
where d.collection_id = %(c)s and d.wanted order by md5(d.uri), d.uri limit %(limit)s
"""

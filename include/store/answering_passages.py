"""Passages of a generation as training data needs them: the best one of a document, some of all, what a document says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql

from include.store.search import as_vector

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from uuid import UUID

    import numpy as np
    from numpy.typing import NDArray

    from include.store.generations import Generation
    from include.store.pool import Connection


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk, a part of one, or a text that somebody gave.

    :param start: where it stands in its document; None: not known.
    :param headings: titles that are in force where it starts, outermost first.
    :param score: cosine similarity to the question it was looked up for.
    """

    document: str
    start: int | None
    end: int | None
    text: str
    headings: tuple[str, ...] = ()
    score: float = 0.0


def best_of_documents(
    connection: Connection,
    held: Generation,
    wanted: Sequence[tuple[str, int | None, int | None]],
    vectors: NDArray[np.float32],
) -> list[Passage | None]:
    """For each document the chunk that best answers a question: the one nearest to it by meaning.

    :param wanted: (document, start, end); with characters it is the chunk that has most of them, of several the nearest.
    :param vectors: of the questions, shape (len(wanted), dimension).
    :return: None where the generation does not hold the document.
    """
    # An expression is no index order: the addition keeps the planner from walking HNSW for the chunks of one document.
    statement = sql.SQL(
        "select w.n, w.uri, b.start_char, b.end_char,"
        " substr(t.text, b.start_char + 1, b.end_char - b.start_char), b.headings, 1 - b.distance"
        " from unnest(%(uris)s::text[], %(starts)s::int[], %(ends)s::int[], %(vectors)s::{storage}[])"
        "  with ordinality as w (uri, first_char, last_char, vector, n)"
        " join ragworks.document d on d.collection_id = %(collection)s and d.uri = w.uri"
        " join ragworks.generation_document g on g.generation_id = %(generation)s and g.document_id = d.id and not g.staged"
        " join ragworks.document_text t on t.collection_id = d.collection_id and t.content_hash = g.content_hash"
        " cross join lateral (select s.start_char, s.end_char, s.metadata -> 'headings' as headings,"
        "   c.embedding <=> w.vector as distance from {chunks} c join {spans} s using (document_id, seq)"
        "  where c.document_id = d.id"
        "  order by coalesce(greatest(least(s.end_char, w.last_char) - greatest(s.start_char, w.first_char), 0), 0) desc,"
        "   (c.embedding <=> w.vector) + 0, s.ordinal limit 1) b"
    ).format(storage=sql.Identifier(held.storage), chunks=held.chunks, spans=held.spans)
    parameters = {
        "uris": [uri for uri, _, _ in wanted], "starts": [start for _, start, _ in wanted],
        "ends": [end for _, _, end in wanted], "vectors": [as_vector(held, vector) for vector in vectors],
        "collection": held.collection_id, "generation": held.id,
    }  # fmt: skip
    found: list[Passage | None] = [None] * len(wanted)
    for position, uri, start, end, text, headings, score in connection.execute(statement, parameters):
        found[position - 1] = Passage(uri, start, end, text, tuple(headings or ()), float(score))
    return found


def some_passages(
    connection: Connection, held: Generation, *, limit: int, seed: int, without: Sequence[str], min_characters: int
) -> Iterator[Passage]:
    """Chunks from all over the generation, the same ones for a seed whatever their ids are; streamed.

    :param without: documents that are left out.
    :param min_characters: shorter ones say too little.
    """
    statement = sql.SQL(
        "with drawn as (select d.uri, s.start_char, s.end_char, s.metadata, g.content_hash, d.collection_id"
        "  from {spans} s join ragworks.document d on d.id = s.document_id"
        "  join ragworks.generation_document g on g.generation_id = %(generation)s and g.document_id = d.id and not g.staged"
        "  where s.end_char - s.start_char >= %(characters)s and d.uri <> all(%(without)s)"
        "  order by md5(%(seed)s || ' ' || s.start_char || ' ' || d.uri), d.uri, s.start_char limit %(limit)s)"
        " select uri, start_char, end_char, substr(t.text, start_char + 1, end_char - start_char), drawn.metadata -> 'headings'"
        " from drawn join ragworks.document_text t using (collection_id, content_hash)"
        " order by md5(%(seed)s || ' ' || start_char || ' ' || uri), uri, start_char"
    ).format(spans=held.spans)
    parameters: Mapping[str, Any] = {
        "generation": held.id, "characters": min_characters, "without": list(without), "seed": str(seed), "limit": limit,
    }  # fmt: skip
    with connection.cursor(name="some_passages") as cursor:
        cursor.itersize = 200
        for uri, start, end, text, headings in cursor.execute(statement, parameters):
            yield Passage(uri, start, end, text, tuple(headings or ()))


def documents_of(connection: Connection, held: Generation) -> frozenset[str]:
    """The uri of every document that a generation holds."""
    rows = connection.execute(
        "select d.uri from ragworks.document d join ragworks.generation_document g"
        " on g.generation_id = %s and g.document_id = d.id and not g.staged where d.collection_id = %s",
        (held.id, held.collection_id),
    )
    return frozenset(str(row[0]) for row in rows)


def contents_of(connection: Connection, held: Generation, uris: Sequence[str]) -> dict[str, tuple[UUID, bytes]]:
    """(content hash, signature; empty: none) of documents as a generation holds them; of others nothing."""
    rows = connection.execute(
        "select d.uri, g.content_hash, coalesce(t.signature, '') from ragworks.document d"
        " join ragworks.generation_document g on g.generation_id = %s and g.document_id = d.id and not g.staged"
        " join ragworks.document_text t on t.collection_id = d.collection_id and t.content_hash = g.content_hash"
        " where d.collection_id = %s and d.uri = any(%s)",
        (held.id, held.collection_id, list(uris)),
    )
    return {str(uri): (content, bytes(signature)) for uri, content, signature in rows}


def texts_of(connection: Connection, held: Generation, uris: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(uri, text) of documents as a generation holds them, streamed; of others nothing."""
    with connection.cursor(name="texts_of") as cursor:
        cursor.itersize = 200
        yield from cursor.execute(
            "select d.uri, t.text from ragworks.document d"
            " join ragworks.generation_document g on g.generation_id = %s and g.document_id = d.id and not g.staged"
            " join ragworks.document_text t on t.collection_id = d.collection_id and t.content_hash = g.content_hash"
            " where d.collection_id = %s and d.uri = any(%s)",
            (held.id, held.collection_id, list(uris)),
        )


def stored_text(connection: Connection, collection: int, uri: str, start: int, end: int) -> str | None:
    """These characters of a document as the source wants it now; None: the collection has no such document."""
    row = connection.execute(
        "select substr(t.text, %s, %s) from ragworks.desired_document d"
        " join ragworks.document_text t on t.collection_id = d.collection_id and t.content_hash = d.content_hash"
        " where d.collection_id = %s and d.uri = %s and d.wanted",
        (start + 1, end - start, collection, uri),
    ).fetchone()
    return str(row[0]) if row else None

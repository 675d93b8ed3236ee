"""Chunk tables: what workers write, what publish merges, which vectors can be used again.

A chunk holds no text: it is a span of its document's stored text (docs/decisions/0003). Its vector has a row that is never
changed, its place in the document another, narrow one: an insertion at the top of a document moves every chunk below it and
touches no vector (docs/decisions/0011).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pgvector import HalfVector, Vector
from psycopg import sql
from psycopg.types.json import Jsonb

from include.store import objects
from include.store.word_column import as_column, words_cursor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from uuid import UUID

    from numpy.typing import NDArray
    from psycopg.sql import Composable

    from include.store.generations import Generation
    from include.store.pool import Connection


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """One chunk of one document.

    :param embedding: float32 of shape (dimension,).
    :param lexical: its words as the generation keeps them: packed, or term → weight.
    """

    document_id: int
    ordinal: int
    start: int
    end: int
    tokens: int
    text_hash: UUID
    metadata: Mapping[str, Any] | None
    embedding: NDArray[np.float32]
    lexical: Mapping[int, float] | Sequence[int] | None = None


def write_documents(
    connection: Connection,
    target: Generation,
    contents: Mapping[int, UUID],
    rows: Sequence[ChunkRow],
    *,
    run_id: int | None = None,
) -> None:
    """Write all chunks of some documents where publish will find them, with the state that says so.

    The state is taken from the document rows as they are: the caller checks in the same transaction that they did not
    change meanwhile (:func:`include.store.work_items.complete`).

    :param contents: of each document, the content that was cut: its present one, or the earlier version that stands in for it.
    """
    documents = list(contents)
    if target.state == "live":  # publish merges them
        connection.execute(sql.SQL("delete from {} where document_id = any(%s)").format(target.staged), (documents,))
        _copy_staged(connection, target, rows)
    else:
        _delete_chunks(connection, target, documents)
        _copy_chunks(connection, target, rows)
    connection.execute(
        "delete from ragworks.rejection r using unnest(%s::bigint[], %s::uuid[]) as n (id, content_hash)"
        " join ragworks.document d using (id, content_hash) where r.generation_id = %s and r.document_id = d.id",
        (documents, list(contents.values()), target.id),
    )
    counts = dict.fromkeys(documents, 0)
    for row in rows:
        counts[row.document_id] += 1
    connection.execute(
        "insert into ragworks.generation_document"
        " (generation_id, document_id, staged, content_hash, version_hash, metadata, acl, chunks, run_id)"
        " select %(g)s, d.id, %(staged)s, n.content_hash, coalesce(e.version_hash, d.version_hash),"
        "  coalesce(e.metadata, d.metadata), d.acl, n.chunks, %(run)s"
        " from unnest(%(ids)s::bigint[], %(contents)s::uuid[], %(chunks)s::int[]) as n (id, content_hash, chunks)"
        " join ragworks.document d on d.id = n.id left join ragworks.earlier_version e"
        "  on e.generation_id = %(g)s and e.document_id = n.id and e.content_hash = n.content_hash"
        " on conflict (generation_id, document_id, staged) do update set content_hash = excluded.content_hash,"
        " version_hash = excluded.version_hash, metadata = excluded.metadata, acl = excluded.acl, chunks = excluded.chunks,"
        " run_id = excluded.run_id",
        {
            "g": target.id,
            "staged": target.state == "live",
            "run": run_id,
            "ids": documents,
            "contents": list(contents.values()),
            "chunks": [counts[d] for d in documents],
        },
    )


def known_embeddings(
    connection: Connection, sources: Sequence[Generation], text_hashes: Sequence[UUID]
) -> dict[UUID, NDArray[np.float32]]:
    """Vectors already held for these texts by generations of the same embedder and storage, live or not."""
    found: dict[UUID, NDArray[np.float32]] = {}
    for table in [t for g in sources for t in (g.chunks, g.staged)]:
        missing = [h for h in text_hashes if h not in found]
        if not missing:
            break
        query = sql.SQL("select distinct on (text_hash) text_hash, embedding from {} where text_hash = any(%s)").format(table)
        for text_hash, embedding in connection.execute(query, (missing,)):
            found[text_hash] = np.asarray(embedding.to_numpy(), dtype=np.float32)
    return found


def sample_vectors(
    connection: Connection, target: Generation, sources: Sequence[Generation], limit: int = 3
) -> list[tuple[str, NDArray[np.float32]]]:
    """A few texts with the vectors that the target holds of them, or where it holds none one of the sources."""
    for held in [target, *sources]:
        query = sql.SQL(
            "select substr(t.text, s.start_char + 1, s.end_char - s.start_char), c.embedding from {} c"
            " join {} s using (document_id, seq) join ragworks.generation_document g on g.generation_id = %s"
            " and g.document_id = c.document_id and not g.staged"
            " join ragworks.document_text t on t.collection_id = %s and t.content_hash = g.content_hash limit %s"
        ).format(held.chunks, held.spans)
        found = connection.execute(query, (held.id, held.collection_id, limit)).fetchall()
        if found:
            return [(str(text), np.asarray(vector.to_numpy(), dtype=np.float32)) for text, vector in found]
    return []


def held_hashes(connection: Connection, sources: Sequence[Generation], text_hashes: Sequence[UUID]) -> set[UUID]:
    """Which of these texts have a vector in generations of the same embedder and storage."""
    found: set[UUID] = set()
    for table in [t for g in sources for t in (g.chunks, g.staged)]:
        missing = [h for h in text_hashes if h not in found]
        query = sql.SQL("select distinct text_hash from {} where text_hash = any(%s)").format(table)
        found.update(row[0] for row in connection.execute(query, (missing,)))
    return found


def refresh_metadata(connection: Connection, generation_id: int) -> None:
    """Bring metadata and ACL of unchanged contents up to date; no chunk row is written.

    The ACL follows the source even where an older content stays live because the new one was refused.
    """
    connection.execute(
        "update ragworks.generation_document g set version_hash = d.version_hash, metadata = d.metadata, acl = d.acl"
        " from ragworks.desired_document d where g.generation_id = %s and not g.staged and d.id = g.document_id and d.wanted"
        " and d.content_hash = g.content_hash and d.version_hash <> g.version_hash",
        (generation_id,),
    )
    connection.execute(_REFRESH_ACL, {"g": generation_id})


def remove_unwanted(connection: Connection, target: Generation) -> int:
    """Delete the chunks of documents that the source no longer has, and note the documents as deleted.

    :return: chunk rows deleted.
    """
    unwanted = [
        row[0]
        for row in connection.execute(
            "select id from ragworks.desired_document where collection_id = %(c)s and not wanted union"
            " select g.document_id from ragworks.generation_document g left join ragworks.desired_document d"
            " on d.id = g.document_id where g.generation_id = %(g)s and not coalesce(d.wanted, false)",
            {"g": target.id, "c": target.collection_id},
        )
    ]
    if not unwanted:
        return 0
    deleted = _delete_chunks(connection, target, unwanted)
    connection.execute(sql.SQL("delete from {} where document_id = any(%s)").format(target.staged), (unwanted,))
    connection.execute(
        "delete from ragworks.generation_document where generation_id = %s and document_id = any(%s)",
        (target.id, unwanted),
    )
    connection.execute("update ragworks.document set state = 'deleted', updated_at = now() where id = any(%s)", (unwanted,))
    objects.drop_vanished(connection, target.collection_id)  # with the documents, in their transaction
    return deleted


def remove_outdated(connection: Connection, held: Generation) -> int:
    """Delete the chunks of documents whose held text is not their present one, as when the present one was refused.

    :return: chunk rows deleted.
    """
    rows = connection.execute(
        "delete from ragworks.generation_document g using ragworks.document d where g.generation_id = %s"
        " and d.id = g.document_id and d.content_hash <> g.content_hash returning g.document_id",
        (held.id,),
    )
    return _delete_chunks(connection, held, [row[0] for row in rows])


def remove_deleted(connection: Connection, target: Generation) -> int:
    """Delete from a generation that did not serve for a while what was deleted meanwhile, and bring its ACLs up to date.

    :return: chunk rows deleted.
    """
    parameters = {"g": target.id}
    rows = connection.execute(
        "delete from ragworks.generation_document g using ragworks.document d where g.generation_id = %(g)s"
        " and d.id = g.document_id and d.state = 'deleted' returning g.document_id",
        parameters,
    )
    deleted = _delete_chunks(connection, target, [row[0] for row in rows])
    connection.execute(_REFRESH_ACL, parameters)
    return deleted


def count_chunks(connection: Connection, held: Generation) -> int:
    """Chunks that answer queries in this generation."""
    row = connection.execute(
        "select coalesce(sum(chunks), 0) from ragworks.generation_document where generation_id = %s and not staged",
        (held.id,),
    ).fetchone()
    return int(row[0]) if row else 0


def count_tokens(connection: Connection, held: Generation) -> int:
    """Tokens of its different texts: what embedding all of them once takes."""
    query = sql.SQL("select coalesce(sum(tokens), 0) from (select distinct on (text_hash) tokens from {}) t").format(
        held.chunks
    )
    row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0


def export_chunks(connection: Connection, held: Generation, *, vectors: bool) -> Iterator[dict[str, Any]]:
    """Every published chunk in (document, ordinal) order, streamed."""
    embedding: Composable = sql.SQL("c.embedding" if vectors else "null")
    query = sql.SQL(
        "select d.uri, s.ordinal, s.start_char, s.end_char, substr(t.text, s.start_char + 1, s.end_char - s.start_char),"
        " g.metadata || coalesce(s.metadata, '{{}}'), {} from {} c join {} s using (document_id, seq)"
        " join ragworks.generation_document g on g.generation_id = %s and g.document_id = c.document_id and not g.staged"
        " join ragworks.document d on d.id = c.document_id"
        " join ragworks.document_text t on t.collection_id = d.collection_id and t.content_hash = g.content_hash"
        " order by d.uri, s.ordinal"
    ).format(embedding, held.chunks, held.spans)
    with connection.cursor(name="export") as cursor:
        cursor.itersize = 1000
        for uri, ordinal, start, end, text, metadata, vector in cursor.execute(query, (held.id,)):
            row = {"document": uri, "ordinal": ordinal, "start": start, "end": end, "text": text, "metadata": metadata}
            yield {**row, "embedding": vector.to_list()} if vectors else row


def sizes(connection: Connection, held: Generation) -> dict[str, int]:
    """Bytes of the chunk tables alone and with their indexes."""
    row = connection.execute(
        "select sum(pg_table_size(name)), sum(pg_total_relation_size(name)) from unnest(%s::regclass[]) as name",
        ([f"ragworks.chunks_{held.id}", f"ragworks.spans_{held.id}"],),
    ).fetchone()
    return {"table_bytes": int(row[0] or 0), "total_bytes": int(row[1] or 0)} if row else {}


def _delete_chunks(connection: Connection, target: Generation, documents: Sequence[int]) -> int:
    """Returns how many chunks."""
    connection.execute(sql.SQL("delete from {} where document_id = any(%s)").format(target.spans), (list(documents),))
    return connection.execute(
        sql.SQL("delete from {} where document_id = any(%s)").format(target.chunks), (list(documents),)
    ).rowcount


def _copy_chunks(connection: Connection, target: Generation, rows: Sequence[ChunkRow]) -> None:
    wrap = HalfVector if target.storage == "halfvec" else Vector
    statement = sql.SQL(
        "copy {} (document_id, seq, tokens, text_hash, embedding, lexical) from stdin with (format binary)"
    ).format(target.chunks)
    with words_cursor(connection) as cursor, cursor.copy(statement) as copy:
        copy.set_types(["int8", "int4", "int4", "uuid", target.storage, target.words])
        for r in rows:
            copy.write_row((r.document_id, r.ordinal, r.tokens, r.text_hash, wrap(r.embedding), as_column(r.lexical)))
    statement = sql.SQL(
        "copy {} (document_id, seq, ordinal, start_char, end_char, metadata) from stdin with (format binary)"
    ).format(target.spans)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(["int8", "int4", "int4", "int4", "int4", "jsonb"])
        for r in rows:
            copy.write_row((r.document_id, r.ordinal, r.ordinal, r.start, r.end, _metadata(r)))


def _copy_staged(connection: Connection, target: Generation, rows: Sequence[ChunkRow]) -> None:
    wrap = HalfVector if target.storage == "halfvec" else Vector
    statement = sql.SQL(
        "copy {} (document_id, ordinal, start_char, end_char, tokens, text_hash, metadata, embedding, lexical)"
        " from stdin with (format binary)"
    ).format(target.staged)
    with words_cursor(connection) as cursor, cursor.copy(statement) as copy:
        copy.set_types(["int8", "int4", "int4", "int4", "int4", "uuid", "jsonb", target.storage, target.words])
        for r in rows:
            place = (r.document_id, r.ordinal, r.start, r.end, r.tokens, r.text_hash, _metadata(r))
            copy.write_row((*place, wrap(r.embedding), as_column(r.lexical)))


def _metadata(row: ChunkRow) -> Jsonb | None:
    return Jsonb(dict(row.metadata)) if row.metadata else None


_REFRESH_ACL = (
    "update ragworks.generation_document g set acl = d.acl from ragworks.desired_document d"
    " where g.generation_id = %(g)s and not g.staged and d.id = g.document_id and d.wanted and d.acl is distinct from g.acl"
)

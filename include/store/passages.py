"""Passages of an index drawn by chance, among which development questions must find theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from include.store.generations import Generation
    from include.store.pool import Connection


def sample_passages(connection: Connection, held: Generation, count: int, *, seed: int) -> list[tuple[str, str]]:
    """Chunks of a generation as (uri, text), the same ones for the same index and seed, in the order that chance gave them."""
    statement = sql.SQL(
        "with drawn as materialized (select s.document_id, s.start_char, s.end_char,"
        " md5(s.document_id || ':' || s.start_char || ':' || %(seed)s) as place"
        " from {spans} s join {chunks} c using (document_id, seq) order by place, document_id, start_char limit %(n)s)"
        " select d.uri, substr(t.text, r.start_char + 1, r.end_char - r.start_char) from drawn r"
        " join ragworks.generation_document h on h.generation_id = %(g)s and h.document_id = r.document_id and not h.staged"
        " join ragworks.document d on d.id = r.document_id"
        " join ragworks.document_text t on t.collection_id = d.collection_id and t.content_hash = h.content_hash"
        " order by r.place, r.document_id, r.start_char"
    ).format(spans=held.spans, chunks=held.chunks)
    rows = connection.execute(statement, {"g": held.id, "n": count, "seed": seed}).fetchall()
    return [(str(uri), str(text)) for uri, text in rows]

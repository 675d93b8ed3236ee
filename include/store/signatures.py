"""Signatures of texts, in the rows of the texts: which lack one, which the live documents have."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from include.store.generations import Generation
    from include.store.pool import Connection


def unsigned(connection: Connection, collection: int, limit: int) -> list[tuple[UUID, int]]:
    """Some texts without a signature, those stored while near-duplicates were not looked for: hash and bytes."""
    return connection.execute(
        "select content_hash, octet_length(text) from ragworks.document_text"
        " where collection_id = %s and signature is null limit %s",
        (collection, limit),
    ).fetchall()


def count_unsigned(connection: Connection, collection: int) -> int:
    """How many texts have none."""
    row = connection.execute(
        "select count(*) from ragworks.document_text where collection_id = %s and signature is null", (collection,)
    ).fetchone()
    return int(row[0]) if row else 0


def save(connection: Connection, collection: int, signatures: Mapping[UUID, bytes]) -> None:
    """Write signatures into the rows of their texts."""
    connection.execute(
        "update ragworks.document_text t set signature = s.signature"
        " from unnest(%s::uuid[], %s::bytea[]) as s (content_hash, signature)"
        " where t.collection_id = %s and t.content_hash = s.content_hash",
        (list(signatures), list(signatures.values()), collection),
    )


def of_documents(connection: Connection, held: Generation, uris: Sequence[str]) -> dict[str, bytes]:
    """Signatures of documents as this generation holds them, where there are any."""
    rows = connection.execute(
        "select d.uri, t.signature from ragworks.document d"
        " join ragworks.generation_document g on g.generation_id = %s and g.document_id = d.id and not g.staged"
        " join ragworks.document_text t on t.collection_id = d.collection_id and t.content_hash = g.content_hash"
        " where d.collection_id = %s and d.uri = any(%s) and t.signature <> ''",
        (held.id, held.collection_id, list(uris)),
    )
    return {str(uri): bytes(signature) for uri, signature in rows}


def contents(connection: Connection, held: Generation) -> list[tuple[UUID, bytes, int]]:
    """Every distinct content of a generation: hash, signature (empty: none), and how many documents say it."""
    with connection.cursor(binary=True) as cursor:
        cursor.execute(
            "select g.content_hash, coalesce(t.signature, ''), g.documents"
            " from (select content_hash, count(*) as documents from ragworks.generation_document"
            "  where generation_id = %s and not staged group by content_hash) g"
            " join ragworks.document_text t on t.collection_id = %s and t.content_hash = g.content_hash"
            " order by g.content_hash",
            (held.id, held.collection_id),
        )
        return cursor.fetchall()


def uris(connection: Connection, held: Generation, content_hashes: Sequence[UUID]) -> dict[UUID, list[str]]:
    """The documents of a generation that have these contents, by uri."""
    rows = connection.execute(
        "select g.content_hash, array_agg(d.uri order by d.uri) from ragworks.generation_document g"
        " join ragworks.document d on d.id = g.document_id"
        " where g.generation_id = %s and not g.staged and g.content_hash = any(%s) group by g.content_hash",
        (held.id, list(content_hashes)),
    )
    return {content_hash: list(found) for content_hash, found in rows}

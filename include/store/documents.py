"""What the source wants: documents and their parsed text, each text kept once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from include.store import objects

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from include.store.pool import Connection


@dataclass(frozen=True, slots=True)
class DocumentRow:
    """One accepted document, as it is stored."""

    uri: str
    object_uri: str
    text: str
    content_hash: UUID
    version_hash: UUID
    metadata: Mapping[str, Any]
    acl: tuple[str, ...] | None


def save_documents(
    connection: Connection, collection: int, rows: Sequence[DocumentRow], *, sign: Callable[[str], bytes] | None = None
) -> None:
    """Insert or update documents, of one uri the last; a row whose version is already stored is not written.

    :param sign: makes the signature that is stored with a new text; None: near-duplicates are not looked for.
    """
    _save_texts(connection, collection, {row.content_hash: row.text for row in rows}, sign)
    latest = list({row.uri: row for row in rows}.values())
    connection.execute(
        "insert into ragworks.document (collection_id, uri, object_uri, content_hash, version_hash, metadata, acl)"
        " select %s, uri, object_uri, content_hash, version_hash, metadata,"
        "  case when acl is not null then array(select jsonb_array_elements_text(acl)) end"
        " from unnest(%s::text[], %s::text[], %s::uuid[], %s::uuid[], %s::jsonb[], %s::jsonb[])"
        "  as new (uri, object_uri, content_hash, version_hash, metadata, acl)"
        " on conflict (collection_id, uri) do update set"
        " object_uri = excluded.object_uri, content_hash = excluded.content_hash, version_hash = excluded.version_hash,"
        " metadata = excluded.metadata, acl = excluded.acl, state = 'present', updated_at = now()"
        " where (document.object_uri, document.version_hash, document.state)"
        " is distinct from (excluded.object_uri, excluded.version_hash, 'present')",
        (
            collection,
            [r.uri for r in latest],
            [r.object_uri for r in latest],
            [r.content_hash for r in latest],
            [r.version_hash for r in latest],
            [Jsonb(dict(r.metadata)) for r in latest],
            [None if r.acl is None else Jsonb(list(r.acl)) for r in latest],
        ),
    )


def owners(connection: Connection, collection: int, uris: Sequence[str]) -> dict[str, str]:
    """The listed object that each present document was last read from."""
    rows = connection.execute(
        "select uri, object_uri from ragworks.desired_document where collection_id = %s and uri = any(%s) and wanted",
        (collection, list(uris)),
    )
    return {str(uri): str(object_uri) for uri, object_uri in rows}


def unchanged(connection: Connection, collection: int, rows: Sequence[DocumentRow]) -> set[tuple[str, str]]:
    """(uri, object) of those documents that are stored just so, and present."""
    # Not asked for the object: a planner that knows little of a new collection may go by that, and all rows of a file have one.
    found = connection.execute(
        "select d.uri, d.object_uri from unnest(%s::text[], %s::uuid[]) as new (uri, version_hash)"
        " join ragworks.document d on d.collection_id = %s and d.uri = new.uri"
        " and d.version_hash = new.version_hash and d.state = 'present'",
        ([r.uri for r in rows], [r.version_hash for r in rows], collection),
    )
    return {(r.uri, r.object_uri) for r in rows} & {(str(uri), str(object_uri)) for uri, object_uri in found}


def texts(connection: Connection, collection: int, content_hashes: Sequence[UUID]) -> dict[UUID, str]:
    """Parsed texts by content hash."""
    rows = connection.execute(
        "select content_hash, text from ragworks.document_text where collection_id = %s and content_hash = any(%s)",
        (collection, list(content_hashes)),
    )
    return {content_hash: str(text) for content_hash, text in rows}


def move_renamed(connection: Connection, collection: int, generation_id: int) -> int:
    """Let a document that was only renamed keep its row and its chunks: the row takes the new name and metadata.

    :param generation_id: the live generation, in the transaction that publishes.
    :return: documents moved.
    """
    connection.execute(
        "create temp table moved on commit drop as select m.old_id, o.object_uri as old_object, n.*"
        " from ragworks.moves(%s, %s) m join ragworks.document n on n.id = m.new_id"
        " join ragworks.document o on o.id = m.old_id",
        (collection, generation_id),
    )
    connection.execute("delete from ragworks.document d using moved where d.id = moved.id")
    moved = connection.execute(
        "update ragworks.document d set uri = moved.uri, object_uri = moved.object_uri, version_hash = moved.version_hash,"
        " content_hash = moved.content_hash, metadata = moved.metadata, acl = moved.acl, state = 'present', updated_at = now()"
        " from moved where d.id = moved.old_id"
    ).rowcount
    # Should the old file come back as it was, it has to be read: its document went with the new name.
    connection.execute(
        "update ragworks.source_object o set fingerprint = '' from moved where o.collection_id = %s"
        " and o.uri = moved.old_object and o.state = 'vanished'",
        (collection,),
    )
    connection.execute("drop table moved")
    return moved


def reject_content(connection: Connection, generation_id: int, contents: Mapping[int, UUID]) -> set[int]:
    """Note by document that a generation refused the chunks of this content: not tried again there until it changes.

    :return: the documents of which it is the present content; of the others it was to stand in for that.
    """
    parameters = (generation_id, list(contents), list(contents.values()))
    rows = connection.execute(
        "insert into ragworks.rejection (generation_id, document_id, content_hash)"
        " select %s, d.id, d.content_hash from unnest(%s::bigint[], %s::uuid[]) as refused (id, content_hash)"
        " join ragworks.document d using (id, content_hash)"
        " on conflict (generation_id, document_id) do update set content_hash = excluded.content_hash, again = false,"
        "  earlier_hash = case when rejection.content_hash = excluded.content_hash then rejection.earlier_hash end"
        " returning document_id",
        parameters,
    ).fetchall()
    connection.execute(
        "update ragworks.rejection r set earlier_hash = e.content_hash from ragworks.earlier_version e"
        " join (select %s::bigint as g, * from unnest(%s::bigint[], %s::uuid[])) as refused (g, id, content_hash)"
        "  on e.generation_id = refused.g and e.document_id = refused.id and e.content_hash = refused.content_hash"
        " where r.generation_id = e.generation_id and r.document_id = e.document_id",
        parameters,
    )
    return {int(row[0]) for row in rows}


def collect_garbage(connection: Connection, collection: int) -> None:
    """Drop documents that were removed and that no generation holds, objects without documents, and unused texts."""
    connection.execute(
        "delete from ragworks.document d where collection_id = %s and state = 'deleted'"
        " and not exists (select from ragworks.generation_document g where g.document_id = d.id)",
        (collection,),
    )
    objects.drop_vanished(connection, collection)
    connection.execute(
        "delete from ragworks.document_text t where collection_id = %(c)s"
        " and not exists (select from ragworks.document d where d.collection_id = %(c)s and d.content_hash = t.content_hash)"
        " and not exists (select from ragworks.generation_document g join ragworks.document d on d.id = g.document_id"
        "  where d.collection_id = %(c)s and g.content_hash = t.content_hash)",
        {"c": collection},
    )


def _save_texts(
    connection: Connection, collection: int, by_hash: Mapping[UUID, str], sign: Callable[[str], bytes] | None
) -> None:
    found = connection.execute(
        "select content_hash from ragworks.document_text where collection_id = %s and content_hash = any(%s)",
        (collection, list(by_hash)),
    )
    known = {row[0] for row in found}
    new = {content_hash: text for content_hash, text in by_hash.items() if content_hash not in known}
    connection.execute(
        "insert into ragworks.document_text (collection_id, content_hash, text, signature)"
        " select %s, * from unnest(%s::uuid[], %s::text[], %s::bytea[]) on conflict do nothing",
        (collection, list(new), list(new.values()), [sign(text) if sign else None for text in new.values()]),
    )


def analyze(connection: Connection) -> None:
    """Refresh the planner's statistics in and after a large load; what another session refreshes just now is left to it.

    Of a collection that is new to them it expects one document, and would compare each of its documents with each.
    """
    connection.execute("analyze (skip_locked) ragworks.source_object, ragworks.document, ragworks.document_text")

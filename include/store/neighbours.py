"""The chunks around a chunk, and the text of several together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from include.store.generations import Generation
    from include.store.pool import Connection
    from include.store.search import Hit


@dataclass(frozen=True, slots=True)
class Stretch:
    """Chunks ``first`` to ``last`` of a document, which are its characters ``start`` to ``end``."""

    first: int
    last: int
    start: int
    end: int

    def touches(self, other: Stretch) -> bool:
        """They share a chunk, or the next chunk of one is in the other."""
        return self.first <= other.last + 1 and other.first <= self.last + 1

    def joined(self, other: Stretch) -> Stretch:
        """Both, and what lies between them."""
        return Stretch(
            min(self.first, other.first), max(self.last, other.last), min(self.start, other.start), max(self.end, other.end)
        )


def stretches(connection: Connection, held: Generation, hits: Sequence[Hit], n: int) -> dict[int, Stretch]:
    """The chunk of each hit with ``n`` before and after it, by the hit's position.

    A hit is left out when the generation holds another version of its document by now, in which other chunks stand there.
    """
    statement = sql.SQL(
        "select h.position, min(s.ordinal), max(s.ordinal), min(s.start_char), max(s.end_char)"
        " from unnest(%(uris)s::text[], %(ordinals)s::int[], %(contents)s::uuid[]) with ordinality"
        '  as h (uri, ordinal, content_hash, "position")'
        ' join ragworks.document d on d.collection_id = %(c)s and d.uri = h.uri collate "C"'
        " join ragworks.generation_document g on g.generation_id = %(g)s and g.document_id = d.id and not g.staged"
        "  and g.content_hash = h.content_hash"
        " join {} s on s.document_id = d.id and s.ordinal between h.ordinal - %(n)s and h.ordinal + %(n)s group by h.position"
    ).format(held.spans)
    parameters = {
        "uris": [hit.document for hit in hits],
        "ordinals": [hit.ordinal for hit in hits],
        "contents": [hit.content_hash for hit in hits],
        "c": held.collection_id,
        "g": held.id,
        "n": n,
    }
    return {int(row[0]) - 1: Stretch(*row[1:]) for row in connection.execute(statement, parameters)}


def texts(connection: Connection, collection: int, wanted: Sequence[tuple[UUID, int, int]]) -> list[str]:
    """Characters ``start`` to ``end`` of stored texts, in the order asked for."""
    rows = connection.execute(
        "select substr(t.text, w.first + 1, w.last - w.first)"
        " from unnest(%s::uuid[], %s::int[], %s::int[]) with ordinality as w (content_hash, first, last, position)"
        " join ragworks.document_text t on t.collection_id = %s and t.content_hash = w.content_hash order by w.position",
        ([content for content, _, _ in wanted], [s for _, s, _ in wanted], [e for _, _, e in wanted], collection),
    )
    return [str(row[0]) for row in rows]

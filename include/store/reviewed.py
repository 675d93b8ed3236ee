"""What a person accepted of what users said about answers: the answers to learn from, and those they were preferred to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from include.store.pool import Connection


@dataclass(frozen=True, slots=True)
class Reviewed:
    """One accepted judgement that says how an answer should be.

    :param query_id: of the question, and of its answer.
    :param thumb: 1: what was said was right.
    :param correction: what would have been right.
    :param document: where that stands, from ``start`` to ``end``.
    :param said: the answer that was judged; None: there is none, as after a search, or it is not kept.
    """

    query_id: UUID
    question: str
    thumb: int | None
    correction: str | None
    document: str | None
    start: int | None
    end: int | None
    said: str | None


def reviewed(connection: Connection, collection: int) -> list[Reviewed]:
    """Accepted corrections and accepted thumbs up for answers, oldest first; what was corrected counts no thumb.

    Without what a reviewer set aside to judge by.
    """
    return list(_rows(connection, collection))


def golden_passages(connection: Connection, collection: int) -> list[str]:
    """The characters that golden queries are answered by, where these are known and the document still has them."""
    rows = connection.execute(
        "select distinct substr(t.text, s.start_char + 1, s.end_char - s.start_char) from ragworks.golden_span s"
        " join ragworks.golden_query q on q.id = s.golden_query_id and q.collection_id = %(c)s"
        " join ragworks.desired_document d on d.collection_id = %(c)s and d.uri = s.uri"
        " join ragworks.document_text t on t.collection_id = %(c)s and t.content_hash = d.content_hash"
        " where s.start_char is not null and s.grade > 0 order by 1",
        {"c": collection},
    )
    return [str(row[0]) for row in rows]


def _rows(connection: Connection, collection: int) -> Iterator[Reviewed]:
    rows = connection.execute(_REVIEWED, (collection,)).fetchall()
    corrected = {row[0] for row in rows if row[3] is not None}
    for row in rows:
        if row[3] is not None or row[0] not in corrected:
            yield Reviewed(*row)


_REVIEWED = """
select f.query_id, l.query, f.thumb, nullif(btrim(f.answer), ''), f.document, f.start_char, f.end_char,
    nullif(btrim(a.text), '')
from ragworks.feedback f join ragworks.query_log l on l.id = f.query_id left join ragworks.answer a on a.id = l.id
where l.collection_id = %s and f.state = 'accepted' and f.purpose is distinct from 'golden' and btrim(l.query) <> ''
and (nullif(btrim(f.answer), '') is not null or f.thumb = 1 and nullif(btrim(a.text), '') is not null)
order by f.created_at, f.id
"""

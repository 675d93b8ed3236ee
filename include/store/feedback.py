"""What people thought of an answer: a thumb, what would have been right, where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from include.store.answers import OF_DOCUMENT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.store.pool import Connection


@dataclass(frozen=True, slots=True)
class Feedback:
    """One judgement; at least one of thumb, answer, document and comment is there.

    :param thumb: 1 up, -1 down.
    :param answer: what would have been right.
    :param document: where it stands, from ``start`` to ``end``.
    """

    query_id: UUID
    thumb: int | None = None
    answer: str | None = None
    document: str | None = None
    start: int | None = None
    end: int | None = None
    comment: str | None = None


def save_feedback(connection: Connection, feedback: Feedback, api_key_id: int | None = None) -> UUID:
    """Keep it, as new: a person reviews it before anything learns from it.

    :return: its id.
    """
    row = connection.execute(
        "insert into ragworks.feedback (query_id, api_key_id, thumb, answer, document, start_char, end_char, comment)"
        " values (%s, %s, %s, %s, %s, %s, %s, %s) returning id",
        (
            feedback.query_id, api_key_id, feedback.thumb, feedback.answer, feedback.document, feedback.start, feedback.end,
            feedback.comment,
        ),
    ).fetchone()  # fmt: skip
    return UUID(str(row[0])) if row else feedback.query_id


def praised_citations(connection: Connection, collection: int) -> list[tuple[str, str, int, int]]:
    """(question, document, start, end) of what answers cite that users liked, as a person accepted."""
    return connection.execute(
        "select distinct l.query, one ->> 'document', (one ->> 'start')::int, (one ->> 'end')::int"
        " from ragworks.feedback f join ragworks.query_log l on l.id = f.query_id join ragworks.answer a on a.id = l.id"
        " cross join jsonb_array_elements(a.citations) one"
        " where l.collection_id = %s and f.state = 'accepted' and f.thumb = 1 and f.document is null"
        " and btrim(l.query) <> '' and one ->> 'document' is not null order by 1, 2, 3, 4",
        (collection,),
    ).fetchall()


def erase_feedback(connection: Connection, collection: int, uri: str, contents: Sequence[UUID] = ()) -> int:
    """Take a document out: the words of whoever named it, or was shown it, may be its own. Thumbs stay.

    :param contents: as of :func:`include.store.answers.forget_document`.
    :return: rows removed or rewritten.
    """
    parameters = {"c": collection, "u": uri, "uri": uri, "contents": list(contents)}
    about = (
        "query_id in (select id from ragworks.query_log where collection_id = %(c)s) and (document = %(u)s or exists"
        " (select from ragworks.query_log q where q.id = query_id and (q.results @> jsonb_build_array(jsonb_build_object("
        "'document', %(u)s::text)) or exists (select from ragworks.answer_source s where s.answer_id = q.id"
        f" and {OF_DOCUMENT}))))"
    )
    deleted = connection.execute(
        f"delete from ragworks.feedback where thumb is null and (document is null or document = %(u)s) and {about}", parameters
    ).rowcount
    return (
        deleted
        + connection.execute(
            "update ragworks.feedback set answer = null, comment = null,"
            " start_char = case when document = %(u)s then null else start_char end,"
            " end_char = case when document = %(u)s then null else end_char end, document = nullif(document, %(u)s)"
            f" where (answer is not null or comment is not null or document = %(u)s) and {about}",
            parameters,
        ).rowcount
    )

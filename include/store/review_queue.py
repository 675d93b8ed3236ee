"""The queue of feedback that a person looks at: what was asked, what was shown, what somebody said, and what became of it.

``open`` is feedback that nobody has reviewed; ``edited`` is accepted after the reviewer put it right. Everything that learns
reads accepted feedback alone, edited or not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

from psycopg.rows import class_row

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from include.store.pool import Connection

State = Literal["open", "accepted", "rejected", "edited"]
STATES: tuple[State, ...] = ("open", "accepted", "rejected", "edited")
SHOWN = 20  # passages of a question that are listed
_STATE = "case when f.state = 'new' then 'open' when f.state = 'accepted' and f.edited then 'edited' else f.state end"


@dataclass(frozen=True, slots=True)
class Shown:
    """A passage that the person saw.

    :param number: by which a reviewer says that it does not answer.
    :param cited: the answer rests on it.
    :param text: None when it is not kept and its document has changed since.
    """

    number: int
    document: str
    start: int
    end: int
    cited: bool
    text: str | None


@dataclass(frozen=True, slots=True)
class Item:
    """One judgement in the queue.

    :param question: None when its text has expired: nothing can be learned from it any more.
    :param answer: what would have been right; it stands in ``document`` from ``start`` to ``end``.
    :param said: the answer that was judged.
    :param wrong: numbers of passages that do not answer.
    :param purpose: ``golden`` or ``training``, once it is accepted and names a document.
    :param by: who reviewed it, at ``at``.
    """

    id: UUID
    query_id: UUID
    state: State
    kind: str
    question: str | None
    thumb: int | None
    answer: str | None
    document: str | None
    start: int | None
    end: int | None
    comment: str | None
    said: str | None
    wrong: tuple[int, ...] | None
    purpose: str | None
    by: str
    at: datetime | None
    given_at: datetime
    shown: tuple[Shown, ...] = ()


def items(
    connection: Connection,
    collection: int,
    *,
    states: Collection[str] = STATES,
    ids: Sequence[UUID] | None = None,
    limit: int | None = None,
    lock: bool = False,
) -> list[Item]:
    """Judgements of a collection, oldest first.

    :param ids: these alone.
    :param lock: keep them as they are until the transaction ends.
    """
    statement = _ITEMS + (" for no key update of f" if lock else "")
    values = {"c": collection, "states": list(states), "ids": list(ids) if ids is not None else None, "limit": limit}
    with connection.cursor(row_factory=class_row(Item)) as cursor:
        found = cursor.execute(statement, values).fetchall()
    seen = _shown(connection, [item.query_id for item in found])
    return [
        replace(one, wrong=tuple(one.wrong) if one.wrong is not None else None, shown=seen.get(one.query_id, ()))
        for one in found
    ]


def matching(connection: Connection, collection: int, prefix: str) -> list[UUID]:
    """Ids of judgements that begin so."""
    rows = connection.execute(
        "select f.id from ragworks.feedback f join ragworks.query_log l on l.id = f.query_id where l.collection_id = %s"
        " and starts_with(f.id::text, %s) limit 2",
        (collection, prefix.lower()),
    )
    return [row[0] for row in rows]


def counts(connection: Connection, collection: int) -> dict[str, int]:
    """Judgements by state."""
    rows = connection.execute(
        f"select {_STATE}, count(*) from ragworks.feedback f join ragworks.query_log l on l.id = f.query_id"
        " where l.collection_id = %s group by 1",
        (collection,),
    ).fetchall()
    return dict.fromkeys(STATES, 0) | {str(state): int(count) for state, count in rows}


def save(connection: Connection, item: Item) -> None:
    """Write down what a reviewer decided."""
    connection.execute(
        "update ragworks.feedback set state = %s, edited = %s, answer = %s, document = %s, start_char = %s, end_char = %s,"
        " wrong = %s, purpose = %s, reviewed_by = %s, reviewed_at = now() where id = %s",
        (
            "accepted" if item.state == "edited" else item.state, item.state == "edited", item.answer, item.document,
            item.start, item.end, list(item.wrong) if item.wrong is not None else None, item.purpose, item.by, item.id,
        ),
    )  # fmt: skip


def lengths(connection: Connection, collection: int, documents: Sequence[str]) -> dict[str, int]:
    """Characters of the documents that the collection holds."""
    rows = connection.execute(
        "select d.uri, length(t.text) from ragworks.desired_document d join ragworks.document_text t"
        " on t.collection_id = d.collection_id and t.content_hash = d.content_hash"
        " where d.collection_id = %s and d.wanted and d.uri = any(%s)",
        (collection, list(documents)),
    )
    return {str(uri): int(length) for uri, length in rows}


def withdraw_golden(connection: Connection, collection: int, questions: Sequence[str]) -> int:
    """Remove golden queries that were made of feedback which no accepted feedback speaks for any more."""
    return connection.execute(
        "delete from ragworks.golden_query g where g.collection_id = %(c)s and g.origin = 'feedback' and g.query = any(%(q)s)"
        " and not exists (select from ragworks.feedback f join ragworks.query_log l on l.id = f.query_id"
        "  where l.collection_id = %(c)s and l.query = g.query and f.state = 'accepted' and f.document is not null"
        "  and coalesce(f.purpose, 'golden') = 'golden')",
        {"c": collection, "q": list(questions)},
    ).rowcount


def disliked(connection: Connection, collection: int) -> Iterator[tuple[str, str, int, int]]:
    """(question, document, start, end) of passages that people were shown and that do not answer, as a person accepted.

    Those that the reviewer named. Else, of a thumb down: what the answer cites, or what a search put before the document that
    would have been right. Only where the document is still as it was.
    """
    found = connection.execute(_DISLIKED, (collection,)).fetchall()
    shown = _shown(connection, [row[0] for row in found])
    told: dict[tuple[str, str, int, int], None] = {}
    for query_id, kind, question, thumb, document, wrong in found:
        for one in _wrong(shown.get(query_id, ()), kind, thumb, document, wrong):
            if one.document != document and one.text is not None:
                told[question, one.document, one.start, one.end] = None
    yield from told


def _wrong(
    shown: Sequence[Shown], kind: str, thumb: int | None, document: str | None, wrong: Sequence[int] | None
) -> list[Shown]:
    if wrong is not None:
        return [one for one in shown if one.number in set(wrong)]
    if thumb != -1:
        return []
    if kind == "chat":
        return [one for one in shown if one.cited]
    if document is None:
        return []
    right = next((n for n, one in enumerate(shown) if one.document == document), len(shown))
    return list(shown[:right])


def _shown(connection: Connection, queries: Sequence[UUID]) -> dict[UUID, tuple[Shown, ...]]:
    """What each question was answered with."""
    rows = connection.execute(_SHOWN, {"ids": list(queries), "limit": SHOWN}).fetchall()
    return {query: tuple(Shown(*row[1:]) for row in group) for query, group in groupby(rows, key=lambda row: row[0])}


def as_shown(one: Shown) -> Mapping[str, Any]:
    """For JSON."""
    return {
        "number": one.number, "document": one.document, "start": one.start, "end": one.end, "cited": one.cited,
        "text": one.text,
    }  # fmt: skip


_ITEMS = f"""
select f.id, f.query_id, {_STATE} as state, l.kind, l.query as question, f.thumb, f.answer, f.document,
    f.start_char as start, f.end_char as "end", f.comment, a.text as said, f.wrong, f.purpose, f.reviewed_by as by,
    f.reviewed_at as at, f.created_at as given_at
from ragworks.feedback f join ragworks.query_log l on l.id = f.query_id left join ragworks.answer a on a.id = l.id
where l.collection_id = %(c)s and {_STATE} = any(%(states)s) and (%(ids)s::uuid[] is null or f.id = any(%(ids)s))
order by f.created_at, f.id limit %(limit)s
"""

# A text that is not kept is read from the document, where that is still what was shown.
_SHOWN = """
select s.answer_id, s.number, s.uri, s.start_char, s.end_char,
    exists (select from jsonb_array_elements(a.citations) one where (one ->> 'number')::int = s.number),
    coalesce(s.text, case when not 'pii_in_answer' = any(a.flags)
        then substr(t.text, s.start_char + 1, s.end_char - s.start_char) end)
from ragworks.answer_source s join ragworks.answer a on a.id = s.answer_id join ragworks.query_log l on l.id = a.id
left join ragworks.desired_document d
    on d.collection_id = l.collection_id and d.uri = s.uri and d.wanted and d.content_hash = s.content_hash
left join ragworks.document_text t on t.collection_id = d.collection_id and t.content_hash = d.content_hash
where s.answer_id = any(%(ids)s) and s.number <= %(limit)s
union all
select l.id, one.number, one.value ->> 'document', (one.value ->> 'start')::int, (one.value ->> 'end')::int, false,
    substr(t.text, (one.value ->> 'start')::int + 1, (one.value ->> 'end')::int - (one.value ->> 'start')::int)
from ragworks.query_log l cross join jsonb_array_elements(l.results) with ordinality as one (value, number)
left join ragworks.document d on d.collection_id = l.collection_id and d.uri = one.value ->> 'document'
    and d.state = 'present' and d.updated_at <= l.created_at
left join ragworks.document_text t on t.collection_id = d.collection_id and t.content_hash = d.content_hash
where l.id = any(%(ids)s) and l.kind = 'search' and one.number <= %(limit)s and one.value ->> 'document' is not null
order by 1, 2
"""

_DISLIKED = """
select f.query_id, l.kind, l.query, f.thumb, f.document, f.wrong
from ragworks.feedback f join ragworks.query_log l on l.id = f.query_id
where l.collection_id = %s and f.state = 'accepted' and (f.thumb = -1 or f.wrong is not null) and btrim(l.query) <> ''
order by f.created_at, f.id
"""

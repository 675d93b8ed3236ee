"""What evaluations found, as they were, and what users said was right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from include.store import kept_out
from include.store.golden import GoldenQuery, GoldenSpan
from include.store.naming import Name, documents_in, without

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from include.store.pool import Connection


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A row of ragworks.evaluation.

    :param name: what was compared, in a few words.
    :param configuration: how queries were answered; with ``against`` when two were compared.
    """

    id: int
    collection_id: int
    generation_id: int | None
    run_id: int | None
    name: str
    configuration: dict[str, Any]
    report: dict[str, Any]
    created_at: datetime


def save(
    connection: Connection,
    collection: int,
    *,
    generation: int | None,
    run: int | None,
    name: str,
    configuration: Mapping[str, Any],
    report: Mapping[str, Any],
) -> int:
    """Keep a report, without what was forgotten while it was made; returns its id.

    It begins the transaction: see :func:`include.store.kept_out.hold`.
    """
    columns = {"name": name, "configuration": dict(configuration), "report": dict(report)}
    if kept_out.hold(connection, {collection: documents_in(columns)}):
        columns = kept_out.less_forgotten(connection, collection, columns)
    row = connection.execute(
        "insert into ragworks.evaluation (collection_id, generation_id, run_id, name, configuration, report)"
        " values (%s, %s, %s, %s, %s, %s) returning id",
        (collection, generation, run, columns["name"], Jsonb(columns["configuration"]), Jsonb(columns["report"])),
    ).fetchone()
    return int(row[0]) if row else 0


def load(connection: Connection, collection: int, evaluation: int) -> Evaluation | None:
    """An evaluation of this collection by its id."""
    with connection.cursor(row_factory=class_row(Evaluation)) as cursor:
        return cursor.execute(
            "select id, collection_id, generation_id, run_id, name, configuration, report, created_at"
            " from ragworks.evaluation where collection_id = %s and id = %s",
            (collection, evaluation),
        ).fetchone()


def forget_document(connection: Connection, collection: int, uri: str) -> int:
    """Erase what reports hold of a document: the questions whose entry names it go whole, other mentions lose the name.

    :return: reports rewritten.
    """
    name = Name(uri)
    with connection.cursor(name="evaluations") as cursor:
        cursor.execute(
            "select id, name, configuration, report from ragworks.evaluation where collection_id = %s for no key update",
            (collection,),
        )
        cleaned = ((row[0], row[1:], tuple(without(name, value) for value in row[1:])) for row in cursor)
        changed = [(key, after) for key, before, after in cleaned if before != after]
    for key, (label, configuration, report) in changed:
        connection.execute(
            "update ragworks.evaluation set name = %s, configuration = %s, report = %s where id = %s",
            (label, Jsonb(configuration), Jsonb(report), key),
        )
    return len(changed)


def accepted_feedback(
    connection: Connection, collection: int, *, judging: bool = False, questions: Sequence[str] | None = None
) -> list[GoldenQuery]:
    """Questions whose better document a person accepted, one each, with the newest corrected answer.

    :param judging: without feedback that is to be learned from.
    :param questions: these alone.
    """
    values = {"c": collection, "judging": judging, "questions": list(questions) if questions is not None else None}
    rows = connection.execute(_FEEDBACK, values).fetchall()
    spans: dict[str, dict[GoldenSpan, None]] = {}
    answers: dict[str, str | None] = {}
    for query, document, start, end, answer in rows:
        spans.setdefault(query, {})[GoldenSpan(document, start, end)] = None
        answers[query] = answer or answers.get(query)
    return [GoldenQuery(query, tuple(where), origin="feedback", answer=answers[query]) for query, where in spans.items()]


# A passage that no longer fits its document stands for the whole of it.
_FEEDBACK = """
select l.query, f.document,
    case when f.end_char <= length(t.text) and f.start_char < f.end_char then f.start_char end,
    case when f.end_char <= length(t.text) and f.start_char < f.end_char then f.end_char end, nullif(btrim(f.answer), '')
from ragworks.feedback f join ragworks.query_log l on l.id = f.query_id
join ragworks.desired_document d on d.collection_id = l.collection_id and d.uri = f.document and d.wanted
join ragworks.document_text t on t.collection_id = d.collection_id and t.content_hash = d.content_hash
where l.collection_id = %(c)s and f.state = 'accepted' and f.document is not null and btrim(l.query) <> ''
and (%(questions)s::text[] is null or l.query = any(%(questions)s))
and (not %(judging)s or f.purpose is distinct from 'training')
order by f.created_at, f.id
"""

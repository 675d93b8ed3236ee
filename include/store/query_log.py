"""What was asked: every search, rerank and chat with its passport; texts only for as long as the collection allows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from pgvector import HalfVector
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from include.store import alerts, kept_out
from include.store.naming import Name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    import numpy as np
    from numpy.typing import NDArray

    from include.collection_file import QueryLog
    from include.store.pool import Connection

MAX_DIMENSION = 16_000  # of a halfvec that is stored without an index
_INSERT = (
    "insert into ragworks.query_log (id, collection_id, generation_id, api_key_id, kind, query, embedding, passport, results,"
    " status, seconds, created_at) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, coalesce(%s, now()))"
)


@dataclass(frozen=True, slots=True)
class LoggedQuery:
    """One question, as it is kept.

    :param kind: search, rerank or chat.
    :param query: scrubbed; None: not kept.
    :param embedding: of the question, shape (dimension,); None: not kept, or not embedded.
    :param results: [{document, ordinal, start, end, score}], best first; of a rerank [{index, score}].
    :param status: ok, empty, abstained, refused or failed.
    :param seconds: embed, search, rerank, answer, total.
    :param created_at: when it was asked; None: now.
    """

    collection_id: int
    kind: str
    generation_id: int | None = None
    query: str | None = None
    embedding: NDArray[np.float32] | None = None
    passport: Mapping[str, Any] = field(default_factory=dict)
    results: Sequence[Mapping[str, Any]] = ()
    status: str = "ok"
    seconds: Mapping[str, float] = field(default_factory=dict)
    api_key_id: int | None = None
    id: UUID = field(default_factory=uuid4)
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose question it was: what decides who may see its answer or judge it."""

    id: UUID
    collection: str
    api_key_id: int | None
    kind: str
    passport: dict[str, Any]


def save_query(
    connection: Connection,
    *,
    collection_id: int,
    generation_id: int | None,
    kind: str,
    query: str | None,
    embedding: NDArray[np.float32] | None,
    passport: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    status: str,
    seconds: Mapping[str, float],
    api_key_id: int | None = None,
    id: UUID | None = None,
) -> UUID:
    """Keep one question.

    :return: its id, by which an answer and feedback refer to it.
    """
    logged = LoggedQuery(
        collection_id=collection_id, generation_id=generation_id, kind=kind, query=query, embedding=embedding,
        passport=passport, results=results, status=status, seconds=seconds, api_key_id=api_key_id, id=id or uuid4(),
    )  # fmt: skip
    save_queries(connection, [logged])
    return logged.id


def save_queries(
    connection: Connection, queries: Iterable[LoggedQuery], *, gone: Mapping[int, Collection[str]] | None = None
) -> None:
    """Keep a batch of questions; what they found of documents that are forgotten by now is left out.

    :param gone: the forgotten documents among the results, by collection, where the caller has asked
        :func:`include.store.kept_out.hold` in this transaction; None: it is asked here, and begins the transaction.
    """
    queries = list(queries)
    if gone is None:
        gone = kept_out.hold(connection, found_by(queries))
    with connection.cursor() as cursor:
        cursor.executemany(_INSERT, [_row(_without(query, gone.get(query.collection_id, ()))) for query in queries])


def found_by(queries: Iterable[LoggedQuery]) -> dict[int, set[str]]:
    """The documents among the results, by collection."""
    found: dict[int, set[str]] = {}
    for query in queries:
        documents = found.setdefault(query.collection_id, set())
        documents |= {str(result["document"]) for result in query.results if "document" in result}
    return found


def _without(query: LoggedQuery, gone: Iterable[str]) -> LoggedQuery:
    for name in map(Name, gone):
        results, passport = (name.out_of_json(value) for value in ([dict(one) for one in query.results], dict(query.passport)))
        query = replace(query, results=results, passport=passport, query=query.query and name.out_of_text(query.query))
    return query


def asked(connection: Connection, query_id: UUID) -> Asked | None:
    """Which collection and key a question belongs to; None: there is none of this id."""
    with connection.cursor(row_factory=class_row(Asked)) as cursor:
        return cursor.execute(
            "select q.id, c.name as collection, q.api_key_id, q.kind, q.passport from ragworks.query_log q"
            " join ragworks.collection c on c.id = q.collection_id where q.id = %s",
            (query_id,),
        ).fetchone()


def expire(connection: Connection, collection_id: int, settings: QueryLog) -> dict[str, int]:
    """Take texts and vectors out of rows past ``keep_texts_days``, and delete rows past ``keep_days``.

    Answers, their passages and feedback go the same way, and past ``keep_days`` reports of other systems
    (:func:`include.store.alerts.expire`). Running it twice changes nothing.

    :return: questions whose texts went, and questions deleted.
    """
    values = {"c": collection_id, "rows": settings.keep_days, "texts": settings.keep_texts_days}
    deleted = connection.execute(
        "delete from ragworks.query_log where collection_id = %(c)s and created_at < now() - make_interval(days => %(rows)s)",
        values,
    ).rowcount
    alerts.expire(connection, collection_id, settings.keep_days)
    for statement in _WITHOUT_TEXTS:
        connection.execute(f"with old as ({_OLD}) {statement}", values)
    emptied = connection.execute(
        "update ragworks.query_log set query = null, embedding = null where collection_id = %(c)s"
        " and created_at < now() - make_interval(days => %(texts)s) and (query is not null or embedding is not null)",
        values,
    ).rowcount
    return {"texts": emptied, "rows": deleted}


_OLD = "select id from ragworks.query_log where collection_id = %(c)s and created_at < now() - make_interval(days => %(texts)s)"
_WITHOUT_TEXTS = (
    "update ragworks.answer a set question = null, text = null,"
    " citations = (select coalesce(jsonb_agg(one - 'quote'), '[]') from jsonb_array_elements(a.citations) as one)"
    " from old where a.id = old.id and (a.question is not null or a.text is not null)",
    "update ragworks.answer_source s set text = null from old where s.answer_id = old.id and s.text is not null",
    "delete from ragworks.feedback f using old where f.query_id = old.id and f.thumb is null and f.document is null",
    "update ragworks.feedback f set answer = null, comment = null from old where f.query_id = old.id"
    " and (f.answer is not null or f.comment is not null)",
)


def _row(query: LoggedQuery) -> tuple[Any, ...]:
    keep = query.embedding is not None and query.embedding.shape[0] <= MAX_DIMENSION
    return (
        query.id, query.collection_id, query.generation_id, query.api_key_id, query.kind, query.query,
        HalfVector(query.embedding) if keep else None, Jsonb(dict(query.passport)),
        Jsonb([dict(result) for result in query.results]), query.status, Jsonb(dict(query.seconds)), query.created_at,
    )  # fmt: skip

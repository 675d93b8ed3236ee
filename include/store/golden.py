"""Golden queries: questions with the documents, or the characters of documents, that answer them.

Anchored to characters of the stored text and not to chunks, so they judge any way of cutting. A span also keeps how it
begins: when its document is edited elsewhere it is found again, when its own text is gone it no longer counts.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from include.errors import BadData
from include.hashing import text_hash
from include.store import kept_out
from include.store.naming import Name, out_of_text, without

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from uuid import UUID

    from include.store.pool import Connection

logger = logging.getLogger(__name__)

BATCH = 500  # queries written together
QUOTE = 200  # characters of a span that are kept to find it again


@dataclass(frozen=True, slots=True)
class GoldenSpan:
    """Characters ``start`` to ``end`` of a document answer the query; None and None: the whole document does."""

    document: str
    start: int | None = None
    end: int | None = None
    grade: float = 1.0


@dataclass(frozen=True, slots=True)
class GoldenQuery:
    """A question and its answers.

    :param spans: none when no document answers it.
    :param origin: imported, feedback (made from what users said) or added (by a person, one at a time).
    :param place: where it was read, for messages: ``file line 3``.
    :param answer: in words, as short as a right answer can be.
    :param answerable: False: no document answers it, and it is right to say so.
    """

    query: str
    spans: tuple[GoldenSpan, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    origin: str = "imported"
    place: str = field(default="", compare=False)
    answer: str | None = None
    answerable: bool = True


@dataclass(frozen=True, slots=True)
class GoldenCounts:
    """``missing`` are documents that golden queries name and the collection does not hold.

    :param unanswerable: those of ``queries`` that no document answers.
    """

    queries: int
    spans: int
    documents: int
    missing: int
    unanswerable: int = 0


def save(connection: Connection, collection: int, queries: Iterable[GoldenQuery]) -> int:
    """Insert queries, or replace all but the text of those that are there; streamed, in the caller's transaction.

    Answers in documents that are forgotten are left out, with the queries that have no other. In a transaction that changes
    something before it, call :func:`include.store.kept_out.hold` first.

    :return: how many.
    :raises BadData: a span ends beyond its document.
    """
    saved = left_out = 0
    kept_out.hold(connection, {collection: ()})
    for part in _batches(queries):
        kept = _less_forgotten(connection, collection, part)
        if kept:
            _save_batch(connection, collection, kept)
        saved += len(kept)
        left_out += len(part) - len(kept)
    if left_out:
        logger.warning("%d golden queries were left out: the documents that answer them were forgotten", left_out)
    return saved


def _less_forgotten(connection: Connection, collection: int, queries: Sequence[GoldenQuery]) -> list[GoldenQuery]:
    """As :func:`forget_document` would leave them."""
    gone = kept_out.is_forgotten(connection, collection, {span.document for query in queries for span in query.spans})
    if not gone:
        return list(queries)
    left = (_without(query, gone) for query in queries)
    return list({text_hash(query.query): query for query in left if query is not None}.values())  # see _batches


def _without(query: GoldenQuery, gone: set[str]) -> GoldenQuery | None:
    spans = tuple(span for span in query.spans if span.document not in gone)
    if query.spans and not spans:
        return None
    answer = query.answer if len(spans) == len(query.spans) else None
    metadata = query.metadata
    for uri in sorted(gone):
        metadata = without(Name(uri), dict(metadata))
    return replace(
        query, query=out_of_text(gone, query.query), spans=spans, metadata=metadata,
        answer=answer and out_of_text(gone, answer),
    )  # fmt: skip


def _batches(queries: Iterable[GoldenQuery]) -> Iterator[list[GoldenQuery]]:
    """Never one query twice in a batch: a statement cannot upsert a row twice."""
    waiting: dict[UUID, GoldenQuery] = {}
    for query in queries:
        waiting[text_hash(query.query)] = query
        if len(waiting) == BATCH:
            yield list(waiting.values())
            waiting = {}
    if waiting:
        yield list(waiting.values())


def _save_batch(connection: Connection, collection: int, queries: Sequence[GoldenQuery]) -> None:
    rows = connection.execute(
        _INSERT_QUERIES,
        (
            collection,
            [q.query for q in queries],
            [text_hash(q.query) for q in queries],
            [q.origin for q in queries],
            [Jsonb(dict(q.metadata)) for q in queries],
            [q.answer for q in queries],
            [q.answerable for q in queries],
        ),
    )
    ids: dict[UUID, int] = dict(rows.fetchall())
    spans = [(query, ids[text_hash(query.query)], span) for query in queries for span in query.spans]
    columns: list[list[Any]] = [
        [i for _, i, _ in spans],
        [s.document for _, _, s in spans],
        [s.start for _, _, s in spans],
        [s.end for _, _, s in spans],
        [s.grade for _, _, s in spans],
    ]
    outside = connection.execute(_OUTSIDE, (*columns[1:4], collection)).fetchone()
    if outside:
        query, _, span = spans[int(outside[0]) - 1]
        raise BadData(
            f"{query.place or repr(query.query)}: characters {span.start} to {span.end} of {span.document}",
            f"the document has {outside[1]} characters", "Count characters of its stored text, from 0",
        )  # fmt: skip
    connection.execute("delete from ragworks.golden_span where golden_query_id = any(%s)", (list(ids.values()),))
    connection.execute(_INSERT_SPANS, (QUOTE, *columns, collection))


def delete_all(connection: Connection, collection: int) -> int:
    """Remove every golden query of a collection; returns how many there were."""
    return connection.execute("delete from ragworks.golden_query where collection_id = %s", (collection,)).rowcount


def forget_document(connection: Connection, collection: int, uri: str) -> int:
    """Erase what golden queries and the reports of quality gates hold of a document.

    A query that has no other answer goes with it; of one that has, the answer in words, which may be the document's. Its name
    goes out of the others by :func:`forget_name`.

    :return: spans removed.
    """
    touched = connection.execute(
        "delete from ragworks.golden_span s using ragworks.golden_query q"
        " where q.id = s.golden_query_id and q.collection_id = %s and s.uri = %s returning q.id",
        (collection, uri),
    ).fetchall()
    connection.execute(
        "delete from ragworks.golden_query q where q.id = any(%s)"
        " and not exists (select from ragworks.golden_span s where s.golden_query_id = q.id)",
        ([row[0] for row in touched],),
    )
    connection.execute("update ragworks.golden_query set answer = null where id = any(%s)", ([row[0] for row in touched],))
    connection.execute(
        "update ragworks.generation set gate = jsonb_set(gate, '{worst}', coalesce((select jsonb_agg(w) from"
        " jsonb_array_elements(gate -> 'worst') w where not w -> 'documents' ? %(uri)s::text), '[]'))"
        " where collection_id = %(c)s and jsonb_path_exists(gate, '$.worst[*].documents[*] ? (@ == $uri)',"
        " jsonb_build_object('uri', %(uri)s::text))",
        {"c": collection, "uri": uri},
    )
    return len(touched)


def forget_name(connection: Connection, collection: int, uri: str) -> int:
    """Take the name of a document out of queries that others answer, of their answers in words and their metadata.

    Of two queries that differ in nothing else one stays.

    :return: queries rewritten or removed.
    """
    name = Name(uri)
    rows = connection.execute(
        "select id, query, answer, metadata from ragworks.golden_query where collection_id = %s order by id for no key update",
        (collection,),
    ).fetchall()
    changed = 0
    for key, *before in rows:
        query, answer, metadata = after = [without(name, value) for value in before]
        if after != before:
            changed += 1
            connection.execute(_RENAME, {"id": key, "q": query, "h": text_hash(query), "a": answer, "m": Jsonb(metadata)})
    return changed


def count(connection: Connection, collection: int) -> GoldenCounts:
    """Queries, spans and documents, the documents that are not in the collection, and the unanswerable queries."""
    row = connection.execute(_COUNT, {"c": collection}).fetchone()
    return GoldenCounts(*row) if row else GoldenCounts(0, 0, 0, 0)


def golden_queries(connection: Connection, collection: int) -> Iterator[GoldenQuery]:
    """Every golden query in the order of arrival, streamed."""
    with connection.cursor(name="golden") as cursor:
        rows = cursor.execute(
            "select q.id, q.query, q.origin, q.metadata, q.answer, q.answerable, s.uri, s.start_char, s.end_char, s.grade"
            " from ragworks.golden_query q left join ragworks.golden_span s on s.golden_query_id = q.id"
            " where q.collection_id = %s order by q.id, s.uri, s.start_char nulls first",
            (collection,),
        )
        for _, group in groupby(rows, key=lambda row: row[0]):
            found = list(group)
            _, query, origin, metadata, answer, answerable, *_ = found[0]
            spans = tuple(GoldenSpan(*row[6:]) for row in found if row[6] is not None)
            yield GoldenQuery(query, spans, metadata, origin, answer=answer, answerable=answerable)


def origins(connection: Connection, collection: int, queries: Sequence[str]) -> dict[str, str]:
    """Which of these queries are golden already, and how they became so."""
    rows = connection.execute(
        "select query, origin from ragworks.golden_query where collection_id = %s and query_hash = any(%s)",
        (collection, [text_hash(query) for query in queries]),
    )
    return dict(rows.fetchall())


_INSERT_QUERIES = """
insert into ragworks.golden_query (collection_id, query, query_hash, origin, metadata, answer, answerable)
select %s, * from unnest(%s::text[], %s::uuid[], %s::text[], %s::jsonb[], %s::text[], %s::bool[])
on conflict (collection_id, query_hash) do update set origin = excluded.origin, metadata = excluded.metadata,
    answer = excluded.answer, answerable = excluded.answerable
returning query_hash, id
"""

# One statement sees the rows as they were before it: where another has the hash already, this one goes.
_RENAME = """
with twin as (
    delete from ragworks.golden_query q where id = %(id)s and exists (select from ragworks.golden_query o
        where o.collection_id = q.collection_id and o.query_hash = %(h)s and o.id <> q.id) returning id)
update ragworks.golden_query set query = %(q)s, query_hash = %(h)s, answer = %(a)s, metadata = %(m)s
where id = %(id)s and not exists (select from twin)
"""

_OUTSIDE = """
select n.position, length(t.text)
from unnest(%s::text[], %s::int[], %s::int[]) with ordinality as n (uri, start_char, end_char, position)
join ragworks.desired_document d on d.collection_id = %s and d.uri = n.uri and d.wanted
join ragworks.document_text t on t.collection_id = d.collection_id and t.content_hash = d.content_hash
where n.end_char is not null and n.end_char > length(t.text) order by n.position limit 1
"""

_INSERT_SPANS = """
insert into ragworks.golden_span (golden_query_id, uri, start_char, end_char, grade, quote)
select n.id, n.uri, n.start_char, n.end_char, n.grade, substr(t.text, n.start_char + 1, least(n.end_char - n.start_char, %s))
from unnest(%s::bigint[], %s::text[], %s::int[], %s::int[], %s::real[]) as n (id, uri, start_char, end_char, grade)
left join ragworks.desired_document d
    on n.start_char is not null and d.collection_id = %s and d.uri = n.uri and d.wanted
left join ragworks.document_text t on t.collection_id = d.collection_id and t.content_hash = d.content_hash
"""

_COUNT = """
select count(distinct q.id), count(s.uri), count(distinct s.uri),
    count(distinct s.uri) filter (where not exists (
        select from ragworks.desired_document d where d.collection_id = %(c)s and d.uri = s.uri and d.wanted)),
    count(distinct q.id) filter (where not q.answerable)
from ragworks.golden_query q left join ragworks.golden_span s on s.golden_query_id = q.id where q.collection_id = %(c)s
"""

"""Answers with the exact passages they rest on: what was said stays readable when the index has moved on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from include.errors import BadData
from include.store import kept_out
from include.store.naming import out_of_text

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime
    from uuid import UUID

    from include.answering.answer import Answer
    from include.store.pool import Connection

FORGOTTEN = "forgotten"  # the flag that says why an answer has no text
# A passage (s) of an answer to a question (q) is a document's by its name; or by its text, but where that is another's now.
OF_DOCUMENT = """q.collection_id = %(c)s and (s.uri = %(uri)s or s.content_hash = any(%(contents)s) and not exists
    (select from ragworks.document d where d.collection_id = %(c)s and d.uri = s.uri and d.state <> 'deleted'
        and (d.content_hash = s.content_hash or exists (select from ragworks.generation_document g
            where g.document_id = d.id and g.content_hash = s.content_hash))))"""


@dataclass(frozen=True, slots=True)
class Source:
    """One passage of an answer, with the run that wrote it.

    :param text: None when texts are not kept, and the document has changed or gone since, or was shown without personal data.
    :param kept: False: read again from the document's stored text, by its content hash and span.
    :param run: key of the run; with its mode and when it started. None when the run is not known.
    """

    number: int
    document: str
    ordinal: int
    start: int
    end: int
    text: str | None
    kept: bool
    score: float
    content_hash: UUID | None
    run: str | None
    run_id: int | None
    run_mode: str | None
    run_started: datetime | None


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer as it was given.

    :param question: None, as the text, when texts are not kept (any more).
    :param citations: [{number, document, start, end, quote}].
    :param passport: collection, generation, mode, embedder, lexical, reranker, prompt, llm: what answered.
    """

    id: UUID
    question: str | None
    text: str | None
    abstained: bool
    extractive: bool
    confidence: float | None
    groundedness: float | None
    flags: list[str]
    citations: list[dict[str, Any]]
    passport: dict[str, Any]
    created_at: datetime
    sources: tuple[Source, ...]


def save_answer(connection: Connection, query_id: UUID, answer: Answer, *, gone: Collection[str] | None = None) -> None:
    """Keep an answer under the id of its question, which :func:`include.store.query_log.save_query` has stored.

    Where that kept no text (``query_log.keep_texts_days`` is 0) none is kept here: no question, no answer, no quotes and no
    passages, only where they stand. Its passport gets the answer's parts. Of an answer that had a passage of a document which
    is forgotten by now as much is kept as :func:`forget_document` leaves.

    :param gone: the forgotten documents among its passages, where the caller has asked :func:`include.store.kept_out.hold` in
        this transaction; None: it is asked here.
    :raises BadData: there is no such question.
    """
    if gone is None:
        gone = _forgotten(connection, query_id, answer)
    row = connection.execute(
        "update ragworks.query_log set passport = passport || %s where id = %s returning query is not null",
        (Jsonb({**answer.passport, "id": str(query_id)}), query_id),
    ).fetchone()
    if row is None:
        raise BadData(f"query {query_id}", "it is not in the log", "Save the query first")
    kept = bool(row[0])
    sources = [(number, hit) for number, hit in enumerate(answer.sources, 1) if hit.document not in gone]
    told = len(sources) == len(answer.sources)
    flags = [*answer.flags] if told else [*(flag for flag in answer.flags if flag != FORGOTTEN), FORGOTTEN]
    citations = [asdict(c) for c in answer.citations if c.document not in gone]
    if not kept:
        citations = [{key: value for key, value in c.items() if key != "quote"} for c in citations]
    connection.execute(
        "insert into ragworks.answer (id, question, text, abstained, extractive, confidence, groundedness, flags, citations)"
        " values (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            query_id, out_of_text(gone, answer.question) if kept else None, answer.text if kept and told else None,
            answer.abstained, answer.extractive, answer.confidence, answer.groundedness, flags, Jsonb(citations),
        ),
    )  # fmt: skip
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into ragworks.answer_source"
            " (answer_id, number, uri, content_hash, ordinal, start_char, end_char, text, score, run_id)"
            " values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (query_id, n, h.document, h.content_hash, h.ordinal, h.start, h.end, h.text if kept else None, h.score, h.run)
                for n, h in sources
            ],
        )


def _forgotten(connection: Connection, query_id: UUID, answer: Answer) -> set[str]:
    row = connection.execute("select collection_id from ragworks.query_log where id = %s", (query_id,)).fetchone()
    collection = int(row[0]) if row else 0
    return kept_out.hold(connection, {collection: {hit.document for hit in answer.sources}}).get(collection, set())


def load_answer(connection: Connection, answer_id: UUID) -> StoredAnswer | None:
    """The answer as it was given, whatever has become of the index; None: there is none of this id."""
    row = connection.execute(
        "select a.id, a.question, a.text, a.abstained, a.extractive, a.confidence, a.groundedness, a.flags, a.citations,"
        " q.passport, a.created_at from ragworks.answer a join ragworks.query_log q on q.id = a.id where a.id = %s",
        (answer_id,),
    ).fetchone()
    if row is None:
        return None
    with connection.cursor(row_factory=class_row(Source)) as cursor:
        cursor.execute(
            "select s.number, s.uri as document, s.ordinal, s.start_char as start, s.end_char as end,"
            " coalesce(s.text, case when not 'pii_in_answer' = any(a.flags)"
            "  then substr(t.text, s.start_char + 1, s.end_char - s.start_char) end) as text,"
            " s.text is not null as kept, s.score, s.content_hash, r.key as run, s.run_id, r.mode as run_mode,"
            " r.started_at as run_started"
            " from ragworks.answer_source s join ragworks.answer a on a.id = s.answer_id"
            " join ragworks.query_log q on q.id = a.id"
            " left join ragworks.run r on r.id = s.run_id left join ragworks.document_text t"
            " on t.collection_id = q.collection_id and t.content_hash = s.content_hash"
            " where s.answer_id = %s order by s.number",
            (answer_id,),
        )
        fields: tuple[Any, ...] = (*row, tuple(cursor.fetchall()))
        return StoredAnswer(*fields)


def forget_document(connection: Connection, collection: int, uri: str, contents: Sequence[UUID] = ()) -> int:
    """Take a document out of the answers that had it among their passages: the text, its citations, its quotes.

    The question is a user's and stays; the flag ``forgotten`` says why the answer has no text.

    :param contents: hashes of its texts: a passage of one of them is the document's whatever it was called then, but of another
        document that has the same text.
    :return: answers changed.
    """
    return connection.execute(
        "update ragworks.answer a set text = null, flags = array_remove(flags, 'forgotten') || '{forgotten}',"
        " citations = coalesce((select jsonb_agg(one) from jsonb_array_elements(a.citations) as one"
        "  where one ->> 'document' <> all(gone.uris)), '[]')"
        " from (select s.answer_id, array_agg(s.uri) as uris from ragworks.answer_source s"
        f"  join ragworks.query_log q on q.id = s.answer_id where {OF_DOCUMENT} group by s.answer_id) as gone"
        " where a.id = gone.answer_id and (a.text is not null or not 'forgotten' = any(a.flags) or exists"
        "  (select from jsonb_array_elements(a.citations) as one where one ->> 'document' = any(gone.uris)))",
        {"c": collection, "uri": uri, "contents": list(contents)},
    ).rowcount


def forget_sources(connection: Connection, collection: int, uri: str, contents: Sequence[UUID]) -> int:
    """Take its passages out of answers, as :func:`forget_document` tells them; returns how many."""
    return connection.execute(
        f"delete from ragworks.answer_source s using ragworks.query_log q where q.id = s.answer_id and {OF_DOCUMENT}",
        {"c": collection, "uri": uri, "contents": list(contents)},
    ).rowcount

"""Golden queries from files (a jsonl of their own, or queries and qrels in the BEIR layout) and from what users said."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from include.evaluation.checked_lines import Wrong, json_object, known, metadata, numbered_lines, span, storable
from include.evaluation.judgements import read_qrels, read_queries
from include.store import evaluations, golden
from include.store.golden import GoldenQuery, GoldenSpan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.store.pool import Connection

_LINE = '{"query": "…", "relevant": [{"document": "…", "start": 0, "end": 80, "grade": 1}], "metadata": {}}'
_KEYS = {"query", "relevant", "metadata", "origin", "answer", "answerable"}
_SPAN_KEYS = {"document", "start", "end", "grade"}
_ORIGINS = ("imported", "feedback", "added")
_MAX_GRADE = 1e6


def read_golden(path: str) -> Iterator[GoldenQuery]:
    """Golden queries of a jsonl file, plain or gzipped, one line at a time; blank lines are skipped.

    :raises BadData: with file, line, what is wrong and what is right.
    """
    lines_of: dict[int, int] = {}
    for number, line in numbered_lines(path):
        place = f"{path} line {number}"
        try:
            query = _query(line, place)
            first = lines_of.setdefault(hash(query.query), number)
            if first != number:
                raise Wrong(f"the query stands on line {first} already", "Give all its documents in one line")
        except Wrong as error:
            raise error.at(place) from None
        yield query


def read_pair(queries_path: str, qrels_path: str) -> Iterator[GoldenQuery]:
    """Golden queries from a file of queries and one of judgements; whole documents, grades above 0.

    Queries of one text are one query. Those without a relevant document are left out.
    """
    grades: dict[str, dict[str, int]] = {}
    qrels = read_qrels(qrels_path)
    for key, text in read_queries(queries_path).items():
        merged = grades.setdefault(_text(text, f"the text of query {key!r}", queries_path), {})
        for document, grade in qrels.get(key, {}).items():
            merged[document] = max(grade, merged.get(document, 0))
    for text, documents in grades.items():
        spans = tuple(
            GoldenSpan(_text(d, "a document", qrels_path), grade=float(grade)) for d, grade in documents.items() if grade > 0
        )
        if spans:
            yield GoldenQuery(text, spans)


def from_feedback(connection: Connection, collection: int) -> tuple[list[GoldenQuery], int]:
    """What accepted feedback makes golden, and how many queries are not touched because a person gave their answers.

    Made of all accepted feedback each time, so that doing it twice changes nothing; but for what is to be learned from.
    """
    made = evaluations.accepted_feedback(connection, collection, judging=True)
    held = golden.origins(connection, collection, [query.query for query in made])
    new = [query for query in made if held.get(query.query, "feedback") == "feedback"]
    return new, len(made) - len(new)


def _query(line: str, place: str) -> GoldenQuery:
    row = json_object(line, _LINE)
    known(row, _KEYS, "the line")
    spans = _spans(row)
    origin = row.get("origin", "imported")
    if origin not in _ORIGINS:
        raise Wrong(f"origin is {origin!r}", f"Write one of {', '.join(_ORIGINS)}, or leave it out")
    answer = None if row.get("answer") is None else storable(row["answer"], "answer", _LINE)
    return GoldenQuery(
        storable(row.get("query"), "query", _LINE), spans, metadata(row.get("metadata")), origin, place, answer, bool(spans)
    )


def _spans(row: dict[str, Any]) -> tuple[GoldenSpan, ...]:
    """Where the answer stands; nowhere only when the line says so."""
    relevant, answerable = row.get("relevant"), row.get("answerable", True)
    if not isinstance(answerable, bool):
        raise Wrong(f"answerable is {answerable!r}", "Write true or false, or leave it out for true")
    if not answerable:
        if relevant or row.get("answer") is not None:
            raise Wrong("it has an answer and is not answerable", 'Write "relevant": [] and no answer')
        return ()
    if not isinstance(relevant, list) or not relevant:
        raise Wrong(
            "relevant is not a list of one or more documents", f'Write {_LINE}, or "answerable": false when nothing answers it'
        )
    spans = tuple(_span(entry, f"relevant[{index}]") for index, entry in enumerate(relevant))
    if len({(s.document, s.start, s.end) for s in spans}) < len(spans):
        raise Wrong("relevant names the same characters twice", "Give each document, or each span, once")
    return spans


def _span(entry: Any, where: str) -> GoldenSpan:
    if not isinstance(entry, dict):
        raise Wrong(f"{where} is not a JSON object", 'Write {"document": "…"}')
    known(entry, _SPAN_KEYS, where)
    document = storable(entry.get("document"), f"{where}.document", _LINE)
    grade = entry.get("grade", 1)
    if isinstance(grade, bool) or not isinstance(grade, int | float) or not (math.isfinite(grade) and 0 < grade <= _MAX_GRADE):
        raise Wrong(f"{where}.grade is {grade!r}", "Write a number above 0, or leave it out for 1")
    characters = span(entry.get("start"), entry.get("end"), where)
    start, end = characters or (None, None)
    return GoldenSpan(document, start, end, float(grade))


def _text(value: str, where: str, path: str) -> str:
    try:
        return storable(value, where, _LINE)
    except Wrong as error:
        raise error.at(path) from None

"""Golden queries from files (a jsonl of their own, or queries and qrels in the BEIR layout) and from what users said."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from include.errors import BadData
from include.evaluation.judgements import open_text, read_qrels, read_queries
from include.store import evaluations, golden
from include.store.golden import GoldenQuery, GoldenSpan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.store.pool import Connection

_LINE = '{"query": "…", "relevant": [{"document": "…", "start": 0, "end": 80, "grade": 1}], "metadata": {}}'
_KEYS = {"query", "relevant", "metadata", "origin", "answer", "answerable"}
_SPAN_KEYS = {"document", "start", "end", "grade"}
_ORIGINS = ("imported", "feedback", "added")
_MAX_OFFSET, _MAX_GRADE = 2**31 - 1, 1e6


class _Wrong(Exception):
    """(what is wrong, what is right) of a line."""


def read_golden(path: str) -> Iterator[GoldenQuery]:
    """Golden queries of a jsonl file, plain or gzipped, one line at a time; blank lines are skipped.

    :raises BadData: with file, line, what is wrong and what is right.
    """
    lines_of: dict[int, int] = {}
    with open_text(path) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            place = f"{path} line {number}"
            try:
                query = _query(line, place)
                first = lines_of.setdefault(hash(query.query), number)
                if first != number:
                    raise _Wrong(f"the query stands on line {first} already", "Give all its documents in one line")
            except _Wrong as error:
                what, right = error.args
                raise BadData(place, what, right) from None
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

    Made of all accepted feedback each time, so that doing it twice changes nothing.
    """
    made = evaluations.accepted_feedback(connection, collection)
    held = golden.origins(connection, collection, [query.query for query in made])
    new = [query for query in made if held.get(query.query, "feedback") == "feedback"]
    return new, len(made) - len(new)


def _query(line: str, place: str) -> GoldenQuery:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _Wrong(f"not JSON ({error})", f"Write {_LINE}") from None
    if not isinstance(row, dict):
        raise _Wrong("not a JSON object", f"Write {_LINE}")
    _known(row, _KEYS, "the line")
    spans = _spans(row)
    origin = row.get("origin", "imported")
    if origin not in _ORIGINS:
        raise _Wrong(f"origin is {origin!r}", f"Write one of {', '.join(_ORIGINS)}, or leave it out")
    answer = None if row.get("answer") is None else _storable(row["answer"], "answer")
    return GoldenQuery(
        _storable(row.get("query"), "query"), spans, _metadata(row.get("metadata")), origin, place, answer, bool(spans)
    )


def _spans(row: dict[str, Any]) -> tuple[GoldenSpan, ...]:
    """Where the answer stands; nowhere only when the line says so."""
    relevant, answerable = row.get("relevant"), row.get("answerable", True)
    if not isinstance(answerable, bool):
        raise _Wrong(f"answerable is {answerable!r}", "Write true or false, or leave it out for true")
    if not answerable:
        if relevant or row.get("answer") is not None:
            raise _Wrong("it has an answer and is not answerable", 'Write "relevant": [] and no answer')
        return ()
    if not isinstance(relevant, list) or not relevant:
        raise _Wrong(
            "relevant is not a list of one or more documents", f'Write {_LINE}, or "answerable": false when nothing answers it'
        )
    spans = tuple(_span(entry, f"relevant[{index}]") for index, entry in enumerate(relevant))
    if len({(s.document, s.start, s.end) for s in spans}) < len(spans):
        raise _Wrong("relevant names the same characters twice", "Give each document, or each span, once")
    return spans


def _span(entry: Any, where: str) -> GoldenSpan:
    if not isinstance(entry, dict):
        raise _Wrong(f"{where} is not a JSON object", 'Write {"document": "…"}')
    _known(entry, _SPAN_KEYS, where)
    document = _storable(entry.get("document"), f"{where}.document")
    start, end, grade = entry.get("start"), entry.get("end"), entry.get("grade", 1)
    if isinstance(grade, bool) or not isinstance(grade, int | float) or not (math.isfinite(grade) and 0 < grade <= _MAX_GRADE):
        raise _Wrong(f"{where}.grade is {grade!r}", "Write a number above 0, or leave it out for 1")
    if start is None and end is None:
        return GoldenSpan(document, grade=float(grade))
    first, last = _offset(start), _offset(end)
    if first is None or last is None or first >= last:
        raise _Wrong(
            f"{where} goes from {start!r} to {end!r}",
            "Write start and end as characters of the document's stored text, start before end, or neither for all of it",
        )
    return GoldenSpan(document, first, last, float(grade))


def _offset(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_OFFSET else None


def _known(row: dict[str, Any], keys: set[str], where: str) -> None:
    unknown = sorted(row.keys() - keys)
    if unknown:
        raise _Wrong(f"{where} has an unknown key {unknown[0]!r}", f"Known keys are {', '.join(sorted(keys))}")


def _metadata(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _Wrong("metadata is not a JSON object", 'Write {"key": "value"}')
    try:
        spelled = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise _Wrong("metadata holds a number that is none", "Write null instead of NaN or Infinity") from None
    if not _writable(spelled) or "\\u0000" in spelled:
        raise _Wrong("metadata holds a character that Postgres cannot store", "Remove \\u0000 and half surrogate pairs")
    return value


def _storable(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _Wrong(f"{where} is missing or no text", f"Write {_LINE}")
    if "\x00" in value or not _writable(value):
        raise _Wrong(f"{where} holds a character that Postgres cannot store", "Remove \\u0000 and half surrogate pairs")
    return value


def _text(value: str, where: str, path: str) -> str:
    try:
        return _storable(value, where)
    except _Wrong as error:
        raise BadData(path, *error.args) from None


def _writable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

"""The review queue as a file: written, corrected in an editor or by a script, read back. Reading it twice changes nothing."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

from include.errors import BadConfiguration
from include.evaluation.checked_lines import Wrong, json_object, known, numbered_lines, span, storable
from include.feedback.review import PURPOSES, Verdict, as_line
from include.store.review_queue import STATES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from include.store.review_queue import Item

_LINE = '{"id": "…", "state": "accepted"}'
_READ = {"id", "state", "answer", "document", "start", "end", "wrong", "purpose"}
_SHOWN = {"question", "thumb", "comment", "said", "shown", "kind", "given_at", "by", "at"}  # to read; not taken back


def write_queue(path: str, items: Iterable[Item]) -> int:
    """Write a line for each judgement; gzipped when the name ends in .gz.

    :return: how many.
    :raises BadConfiguration: the file cannot be written.
    """
    count = 0
    try:
        with gzip.open(path, "wt", encoding="utf-8") if path.endswith(".gz") else open(path, "w", encoding="utf-8") as file:
            for item in items:
                file.write(json.dumps(as_line(item), ensure_ascii=False) + "\n")
                count += 1
    except OSError as error:
        raise BadConfiguration(f"--export {path}", error.strerror or str(error), "Name a file that can be written") from error
    return count


def read_verdicts(path: str) -> Iterator[Verdict]:
    """Verdicts of a file; lines that are still open say nothing.

    :raises BadData: with file, line, what is wrong and what is right.
    """
    lines_of: dict[UUID, int] = {}
    for number, line in numbered_lines(path):
        place = f"{path} line {number}"
        try:
            row = json_object(line, _LINE)
            verdict = _verdict(row, place)
            if verdict is None:
                continue
            first = lines_of.setdefault(verdict.id, number)
            if first != number:
                raise Wrong(f"the same feedback stands on line {first} already", "Give one verdict for each")
        except Wrong as error:
            raise error.at(place) from None
        yield verdict


def _verdict(row: dict[str, Any], place: str) -> Verdict | None:
    known(row, _READ | _SHOWN, "the line")
    state = row.get("state")
    if state not in STATES:
        raise Wrong(f"state is {state!r}", f"Write one of {', '.join(STATES)}")
    try:
        identity = UUID(str(row.get("id")))
    except ValueError:
        raise Wrong(f"id is {row.get('id')!r}", "Leave the id as it was exported") from None
    if state == "open":
        return None
    return Verdict(identity, state != "rejected", _correction(row) if state != "rejected" else {}, place)


def _correction(row: dict[str, Any]) -> dict[str, Any]:
    """The fields that the line has, checked."""
    characters = span(row.get("start"), row.get("end"), "the passage")
    if characters is not None and row.get("document") is None:
        raise Wrong("it has a start and no document", "Name the document that the characters are of")
    purpose = row.get("purpose")
    if purpose is not None and purpose not in PURPOSES:
        raise Wrong(f"purpose is {purpose!r}", f"Write {' or '.join(PURPOSES)}, or null: the document decides")
    start, end = characters or (None, None)
    found = {
        "answer": _text(row, "answer"), "document": _text(row, "document"), "start": start, "end": end,
        "wrong": _numbers(row.get("wrong")), "purpose": purpose,
    }  # fmt: skip
    given = row.keys() | ({"start", "end"} if characters else set())
    return {key: value for key, value in found.items() if key in given}


def _text(row: dict[str, Any], key: str) -> str | None:
    return None if row.get(key) is None else storable(row[key], key, _LINE)


def _numbers(value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(one, int) and not isinstance(one, bool) and one > 0 for one in value):
        raise Wrong(f"wrong is {value!r}", "Write a list of numbers of `shown`, such as [1, 3], or null")
    return tuple(sorted(set(value)))

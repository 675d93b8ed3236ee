"""Checks the lines of a jsonl file that a person wrote or edited: what is wrong, and what would be right."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from include.errors import BadData
from include.evaluation.judgements import open_text

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_OFFSET = 2**31 - 1


class Wrong(Exception):
    """(what is wrong, what is right) of a line."""

    def at(self, place: str) -> BadData:
        """The error that a person sees: ``file line 3``, and the two."""
        what, right = self.args
        return BadData(place, what, right)


def numbered_lines(path: str) -> Iterator[tuple[int, str]]:
    """(number, line) of a file, plain or gzipped; blank lines are skipped.

    :raises BadData: it cannot be read, or is not UTF-8.
    """
    with open_text(path) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield number, line


def json_object(line: str, example: str) -> dict[str, Any]:
    """The object of a line."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Wrong(f"not JSON ({error})", f"Write {example}") from None
    if not isinstance(row, dict):
        raise Wrong("not a JSON object", f"Write {example}")
    return row


def known(row: dict[str, Any], keys: set[str], where: str) -> None:
    """No key but these."""
    unknown = sorted(row.keys() - keys)
    if unknown:
        raise Wrong(f"{where} has an unknown key {unknown[0]!r}", f"Known keys are {', '.join(sorted(keys))}")


def storable(value: Any, where: str, example: str) -> str:
    """A text that is there and that Postgres can store."""
    if not isinstance(value, str) or not value.strip():
        raise Wrong(f"{where} is missing or no text", f"Write {example}")
    if "\x00" in value or not _writable(value):
        raise Wrong(f"{where} holds a character that Postgres cannot store", "Remove \\u0000 and half surrogate pairs")
    return value


def span(start: Any, end: Any, where: str) -> tuple[int, int] | None:
    """Characters of a document; None when neither is given."""
    if start is None and end is None:
        return None
    first, last = _offset(start), _offset(end)
    if first is None or last is None or first >= last:
        raise Wrong(
            f"{where} goes from {start!r} to {end!r}",
            "Write start and end as characters of the document's stored text, start before end, or neither for all of it",
        )
    return first, last


def metadata(value: Any) -> dict[str, Any]:
    """An object that Postgres can store; nothing is an empty one."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Wrong("metadata is not a JSON object", 'Write {"key": "value"}')
    try:
        spelled = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise Wrong("metadata holds a number that is none", "Write null instead of NaN or Infinity") from None
    if not _writable(spelled) or "\\u0000" in spelled:
        raise Wrong("metadata holds a character that Postgres cannot store", "Remove \\u0000 and half surrogate pairs")
    return value


def _offset(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_OFFSET else None


def _writable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

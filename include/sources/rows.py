"""One row, of a jsonl file or a query, to a document; each thing that can be wrong with it has its own message."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, NoReturn

from include.sources.source import Document, Json, Unreadable, unreadable, unstorable

if TYPE_CHECKING:
    from include.sources.lines import Line

_LONGEST_ID = 1000  # bytes; a btree row of Postgres holds 2,704


def parse_row(line: Line, object_uri: str) -> Document:
    """The document of one line, with its ``problem`` when the line is refused."""
    uri, locator = f"{object_uri}#L{line.number}", f"line {line.number}"
    try:
        row = _row(line.data)
    except Unreadable as error:
        return unreadable(uri, object_uri, error, size=line.size, locator=locator)
    return row_document(row, uri, object_uri, line.size, locator)


def row_document(row: dict[str, Any], uri: str, object_uri: str, size: int, locator: str = "") -> Document:
    """The document of one row {"id", "title", "text", "metadata", "acl"}, with its ``problem`` when it is refused.

    :param uri: what to call a row whose id cannot be used.
    """
    try:
        uri = identifier(row.get("id"))
        text, title = _text(row)
        metadata = _metadata(row)
        acl = _acl(row)
    except Unreadable as error:
        return unreadable(uri, object_uri, error, size=size, locator=locator)
    if title:
        text, metadata["title"] = f"{title}\n\n{text}", title
    return Document(uri, object_uri, text, metadata, acl, size, locator)


def identifier(value: object) -> str:
    """A row's id as the document's uri.

    :raises Unreadable: it is missing, of another type than string or integer, empty, too long, or cannot be stored.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _wrong("id", value, "make it a string or an integer")
    try:
        uri = str(value)
    except ValueError as error:  # more digits than Python prints
        raise Unreadable("id is a number of thousands of digits; make it a short string") from error
    if not uri.strip():
        raise Unreadable("id is empty; give each row its own")
    if problem := unstorable(uri):
        raise Unreadable(f"id {problem}; remove it")
    if len(uri.encode()) > _LONGEST_ID:
        raise Unreadable(f"id is longer than {_LONGEST_ID:,} bytes; make it shorter")
    return uri


def _row(data: bytes) -> dict[str, Any]:
    try:
        row = json.loads(data.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise Unreadable(f"invalid UTF-8 at byte {error.start + 1}; save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        raise Unreadable(f"malformed JSON at column {error.colno} ({error.msg}); write one object a line") from error
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"malformed JSON ({error}); write one object a line") from error
    if not isinstance(row, dict):
        raise Unreadable(f'the line is a JSON {_kind(row)}, not an object; write {{"id": …, "text": …}}')
    return row


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _text(row: dict[str, Any]) -> tuple[str, str]:
    text, title = row.get("text"), row.get("title")
    for key, value in (("text", text), ("title", title if title is not None else "")):
        if not isinstance(value, str):
            raise _wrong(key, value, "make it a string")
        if problem := unstorable(value):
            raise Unreadable(f"{key} {problem}; remove it")
    return text or "", title or ""


def _metadata(row: dict[str, Any]) -> dict[str, Json]:
    metadata = row.get("metadata")
    if metadata is None:
        return {}
    if not isinstance(metadata, dict):
        raise _wrong("metadata", metadata, "make it an object")
    pending: list[Json] = [metadata]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending.extend(value)
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
        elif isinstance(value, float) and not math.isfinite(value):
            raise Unreadable("metadata holds a number too large to store; make it a string")
        elif isinstance(value, str) and (problem := unstorable(value)):
            raise Unreadable(f"metadata {problem}; remove it")
    return dict(metadata)


def _acl(row: dict[str, Any]) -> tuple[str, ...] | None:
    """Anything odd is refused: taken for "no list" it would make the document public."""
    acl = row.get("acl")
    if acl is None:
        return None
    if not isinstance(acl, list) or not all(isinstance(name, str) and name and not unstorable(name) for name in acl):
        raise Unreadable('acl is not a list of names; write for example "acl": ["team-a"], or null for public')
    return tuple(acl)


def _wrong(key: str, value: object, fix: str) -> Unreadable:
    return Unreadable(f"{key} is missing" if value is None else f"{key} is a JSON {_kind(value)}; {fix}")


def _kind(value: object) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), "null")

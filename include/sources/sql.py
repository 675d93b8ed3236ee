"""The rows of a query as documents: which are new, changed or gone is told by every row's own update time."""

from __future__ import annotations

import difflib
import json
import logging
import re
import uuid
from functools import cached_property
from hashlib import blake2b
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, func, select, text
from sqlalchemy.types import NullType

from include.errors import BadConfiguration
from include.sources.rows import identifier, row_document
from include.sources.source import Document, SourceObject, Unreadable, too_large, unreadable
from include.sources.spool import in_order
from include.sources.sql_database import Database
from include.sources.sql_values import clocks, plain, racy, row_id, stamp

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import Connection, TextClause

    from include.collection_file import SqlSource as Settings

logger = logging.getLogger(__name__)

_RACY = ":racy-"  # then what never repeats: the row may still change without its version changing
_PARSER = "sql:2"  # raise it when the same row may become another document
_NO_ID = "(no usable id) "  # begins the uri of what stands for rows that have none; what is wrong follows
_LISTED = 5000  # rows fetched at a time while listing, of two columns
_FETCHED = 20  # rows fetched at a time while reading, each up to max_bytes
_BATCH = 500  # ids in one query
_MOST_HELD = 64_000_000  # bytes of a batch; one that has more is read in halves
_STATEMENT = re.compile(r"(?:[\s(]+|--[^\n]*(?:\n|\Z)|/\*.*?\*/)*(select|with)\b", re.IGNORECASE | re.DOTALL)
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,17})")


class SqlSource:
    """The rows of one query.

    :param settings: the query and what its columns mean.
    :param url: SQLAlchemy URL, with credentials.
    :param max_bytes: a larger row is refused.
    :raises BadConfiguration: not a query, or a URL or driver that cannot be used.
    """

    def __init__(self, settings: Settings, url: str, max_bytes: int) -> None:
        if not _STATEMENT.match(settings.query):
            raise BadConfiguration("source.query", "it begins with neither SELECT nor WITH", "Write one query that reads rows")
        named = f"source.conn_id {settings.conn_id}" if settings.conn_id else "source.url"
        self._settings, self._max_bytes = settings, max_bytes
        self._database = Database(url, named)
        self._found: dict[str, str] = {}

    def listing(self) -> Iterator[SourceObject]:
        """Every row by its id and update time, in code point order, whatever the database's collation.

        The connection is closed before the first row comes out; rows wait in a temporary file.
        """
        return self._grouped(in_order(self._stamps(), 2))

    def read(self, obj: SourceObject) -> Iterator[Document]:
        """The document of one row."""
        for _, documents in self.read_many([obj]):
            yield from documents

    def read_many(self, objects: Sequence[SourceObject]) -> Iterator[tuple[SourceObject, Iterator[Document]]]:
        """The rows of these objects, some hundreds with one query."""
        for start in range(0, len(objects), _BATCH):
            yield from self._read(objects[start : start + _BATCH])

    def _stamps(self) -> Iterator[tuple[str, str]]:
        """(uri, version) of each row, as the database gives them."""
        unknown = 0
        with self._database.connect() as connection:
            columns = self._columns(connection)
            clock = clocks(connection.scalar(select(func.current_timestamp())))
            statement = self._select([columns[self._settings.id], columns[self._settings.updated_at]])
            streaming = connection.execution_options(stream_results=True, yield_per=_LISTED)
            for row in streaming.execute(statement):
                unknown += row[1] is None
                yield _uri(row[0]), _version(row[1], clock)
        if unknown:
            column = self._settings.updated_at
            logger.warning("%d rows have no %s: they are read in every run", unknown, column)

    def _grouped(self, stamps: Iterator[tuple[str, str]]) -> Iterator[SourceObject]:
        for uri, rows in groupby(stamps, key=lambda pair: pair[0]):
            yield SourceObject(uri, f"{_joined(version for _, version in rows)}|{self._parser}", 0)

    @cached_property
    def _parser(self) -> str:
        """Changes when the same rows may become other documents: with the settings, and with the database."""
        settings = self._settings.model_dump(mode="json", exclude={"url", "conn_id"})
        described = json.dumps([settings, self._database.place, self._max_bytes], sort_keys=True)
        return f"{_PARSER}:{blake2b(described.encode(), digest_size=8).hexdigest()}"

    def _columns(self, connection: Connection) -> dict[str, str]:
        """The name in the settings → the database's own, which may differ in case; asked once."""
        if not self._found:
            names = list(connection.execute(self._select(["*"], "where 1 = 0")).keys())
            self._found = {name: _find(f"source.{key}", name, names) for key, name in self._wanted()}
        return self._found

    def _wanted(self) -> Iterator[tuple[str, str]]:
        """(setting, column) of all columns that are read."""
        for key in ("id", "updated_at", "title", "acl", "text", "metadata"):
            value = getattr(self._settings, key)
            yield from ((key, name) for name in ((value,) if isinstance(value, str) else value or ()))

    def _select(self, columns: Sequence[str], condition: str = "") -> TextClause:
        """The query as a table, so that it is one statement that reads, whatever it holds."""
        query = re.sub(r":(?=[\w$])", r"\\:", self._settings.query.strip().rstrip(";"))  # a colon is no parameter here
        names = ", ".join(name if name == "*" else self._database.quote(name) for name in columns)
        return text(f"select {names} from (\n{query}\n) ragworks_source {condition}")

    def _read(self, objects: Sequence[SourceObject]) -> Iterator[tuple[SourceObject, Iterator[Document]]]:
        found = self._documents([obj.uri for obj in objects])
        if found is None:
            half = len(objects) // 2
            yield from self._read(objects[:half])
            yield from self._read(objects[half:])
            return
        for obj in objects:
            yield obj, iter([found.pop(obj.uri) if obj.uri in found else _absent(obj.uri)])

    def _documents(self, uris: Sequence[str]) -> dict[str, Document] | None:
        """The documents of these rows, by id; None when they are too many to hold."""
        found: dict[str, Document] = {}
        rows: dict[str, int] = {}
        held = 0
        with self._database.connect() as connection:
            columns = self._columns(connection)
            condition = f"where {self._database.quote(columns[self._settings.id])} in :ids"
            # Without a type Postgres takes each id for what the column is, and its index serves.
            statement = self._select(list(columns.values()), condition).bindparams(
                bindparam("ids", self._values(uris), expanding=True, type_=NullType())
            )
            streaming = connection.execution_options(stream_results=True, yield_per=_FETCHED)
            for values in streaming.execute(statement):
                document = self._document(dict(zip(columns, values, strict=True)))
                rows[document.uri] = rows.get(document.uri, 0) + 1
                held += document.size if not document.problem else 0
                found[document.uri] = document
                if held > _MOST_HELD and len(uris) > 1:
                    return None
        return {uri: _repeated(uri, rows[uri]) if rows[uri] > 1 else document for uri, document in found.items()}

    def _values(self, uris: Sequence[str]) -> list[Any]:
        asked: list[Any] = [uri for uri in uris if not uri.startswith(_NO_ID)]
        if self._database.loosely_typed:
            asked += [int(uri) for uri in asked if _NUMBER.fullmatch(uri)]
        return asked

    def _document(self, values: Mapping[str, Any]) -> Document:
        settings, uri = self._settings, _uri(values[self._settings.id])
        size = sum(_bytes(value) for value in values.values())
        try:
            if size > self._max_bytes:
                raise too_large("the row", size, self._max_bytes, "row")
            texts = [_string(name, values[name]) for name in settings.text if values[name] is not None]
            row = {
                "id": uri,
                "title": _string(settings.title, values[settings.title]) if settings.title else None,
                "text": "\n\n".join(texts),
                "metadata": {name: _value(name, values[name]) for name in settings.metadata},
                "acl": _principals(settings.acl, values[settings.acl]) if settings.acl else None,
            }
        except Unreadable as error:
            return unreadable(uri, uri, error, size=size)
        return row_document(row, uri, uri, size)


def _find(setting: str, name: str, found: Sequence[str]) -> str:
    if name in found:
        return name
    alike = [column for column in found if column.casefold() == name.casefold()]
    if len(alike) == 1:
        return alike[0]
    close = difflib.get_close_matches(name, found, n=1)
    fix = f"Perhaps {close[0]} is meant" if close else "Name one of these, or add it to source.query"
    raise BadConfiguration(f"{setting} {name!r}", f"the query has no such column, it has {', '.join(found)}", fix)


def _uri(value: Any) -> str:
    """A row's id, or what is wrong with it: a row that cannot be asked for must still be seen."""
    if value is None:
        return f"{_NO_ID}NULL"
    try:
        uri = identifier(row_id(value))
    except Unreadable as error:
        shown = repr(bytes(value) if isinstance(value, memoryview) else value)
        mark = blake2b(shown.encode(), digest_size=6).hexdigest()
        return f"{_NO_ID}{str(error).removeprefix('id ')}: {shown[:60]} {mark}"
    return f"{_NO_ID}reserved {uri[:60]!r}" if uri.startswith(_NO_ID) else uri


def _version(value: Any, clock: Sequence[dt.datetime]) -> str:
    if value is None:
        return f"unknown{_RACY}{uuid.uuid4().hex}"
    return f"{stamp(value)}{_RACY}{uuid.uuid4().hex}" if racy(value, clock) else stamp(value)


def _joined(versions: Iterator[str]) -> str:
    """One version for the rows of one id, which are one row unless ids repeat; they come sorted."""
    first = next(versions)
    digest, count, recent = blake2b(digest_size=16), 0, False
    for version in chain([first], versions):
        plainly, mark, _ = version.partition(_RACY)
        digest.update(plainly.encode(errors="replace") + b"\0")
        count, recent = count + 1, recent or bool(mark)
    return first if count == 1 else f"{count}-rows-{digest.hexdigest()}" + (f"{_RACY}{uuid.uuid4().hex}" if recent else "")


def _absent(uri: str) -> Document:
    if uri.startswith(_NO_ID):
        return unreadable(uri, uri, f"id {uri.removeprefix(_NO_ID)}; give each row a short id of its own, or leave it out")
    return unreadable(uri, uri, "the row is gone since it was listed; run again")


def _repeated(uri: str, count: int) -> Document:
    problem = f"duplicate id: {count} rows of the query have it; make source.id a column that is unique"
    return unreadable(uri, uri, problem)


def _value(name: str, value: Any) -> Any:
    try:
        return plain(value)
    except Unreadable as error:
        raise Unreadable(f"{name} {error}") from error


def _string(name: str, value: Any) -> str:
    found = _value(name, value)
    if isinstance(found, dict | list):
        raise Unreadable(f"{name} is a JSON {'object' if isinstance(found, dict) else 'array'}; make it text in source.query")
    return "" if found is None else str(found)


def _principals(name: str, value: Any) -> Any:
    """A list as it is, or written as JSON; whatever else there is will be refused."""
    found = _value(name, value)
    if isinstance(found, str):
        try:
            return json.loads(found)
        except ValueError:
            return found
    return found


def _bytes(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode(errors="surrogatepass"))
    return len(value) if isinstance(value, bytes | bytearray | memoryview) else len(str(value)) if value is not None else 0

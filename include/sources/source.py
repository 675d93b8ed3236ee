"""What every source gives: objects seen by a listing, documents read from them, and why one could not be read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from include.errors import BadData

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None

_LONGEST_PROBLEM = 500  # characters; a message is read by a person


class Unreadable(BadData):
    """One document cannot be read; the others go on. Its message becomes ``Document.problem``."""


@dataclass(frozen=True, slots=True)
class SourceObject:
    """What a listing sees: one file, or one row of a query.

    :param uri: posix path relative to the source's root; for a single-file source its file name; for a query the row's id.
    :param fingerprint: changes when the object or its parser may have changed; found without opening the object.
    :param size: bytes; 0 where the store does not tell.
    """

    uri: str
    fingerprint: str
    size: int


@dataclass(frozen=True, slots=True)
class Document:
    """One row to be validated; never half-built.

    :param uri: the object's uri, or a jsonl row's id.
    :param object_uri: the object it was read from.
    :param text: parsed to Markdown; "" when it could not be read.
    :param metadata: JSON values only, nothing volatile: it is hashed.
    :param acl: principals that may read it; None is public, () is nobody.
    :param size: bytes of the raw document.
    :param locator: where in the object, for messages: "line 17".
    :param problem: one line, why it could not be read and what to do; "" when it is fine.
    :param scrubbed: personal data taken out of it, by kind.
    """

    uri: str
    object_uri: str
    text: str
    metadata: dict[str, Json]
    acl: tuple[str, ...] | None = None
    size: int = 0
    locator: str = ""
    problem: str = ""
    scrubbed: Mapping[str, int] = field(default_factory=dict)


class Source(Protocol):
    """A place that documents come from."""

    def listing(self) -> Iterator[SourceObject]:
        """Every object, sorted by uri (code points): all of them, or an error.

        :raises BadConfiguration: the path does not exist or may not be read.
        :raises ServiceUnavailable: the store does not answer.
        """
        ...

    def read(self, obj: SourceObject) -> Iterator[Document]:
        """The documents of one object, streaming; what cannot be read comes out with its ``problem``.

        :raises ServiceUnavailable: the store does not answer.
        """
        ...

    def read_many(self, objects: Sequence[SourceObject]) -> Iterator[tuple[SourceObject, Iterator[Document]]]:
        """Each object with its documents, in the order asked; take an object's documents before the next object.

        A store that answers for many objects at once is asked so: a query for a page of rows, not one for each.

        :param objects: a page, about a thousand.
        :raises ServiceUnavailable: the store does not answer.
        """
        ...


def one_by_one(source: Source, objects: Sequence[SourceObject]) -> Iterator[tuple[SourceObject, Iterator[Document]]]:
    """``read_many`` of a source that opens each object by itself."""
    for obj in objects:
        yield obj, source.read(obj)


def unreadable(
    uri: str, object_uri: str, error: Unreadable | str, *,
    metadata: dict[str, Json] | None = None, size: int = 0, locator: str = "",
) -> Document:  # fmt: skip
    """A document that could not be read, with the reason on one line."""
    problem = " ".join(str(error).split())
    if len(problem) > _LONGEST_PROBLEM:
        problem = problem[: _LONGEST_PROBLEM - 1] + "…"
    return Document(uri, object_uri, "", metadata or {}, None, size, locator, problem)


def too_large(name: str, size: int, limit: int, unit: str) -> Unreadable:
    """The refusal of a file or row (``unit``) of ``size`` bytes."""
    limited = f"the limit validation.max_bytes is {limit:,}; raise it or split the {unit}"
    return Unreadable(f"{name} is {size:,} bytes, {limited}")


def unstorable(text: str) -> str:
    """Why Postgres would refuse ``text``, or ""."""
    if "\0" in text:
        return "holds a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"holds a lone surrogate (\\u{ord(text[error.start]):04x}), which is not a character"
    return ""

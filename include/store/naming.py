"""Takes the name of a document out of messages and JSON: pure, so that every case of it can be tested."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

FORGOTTEN = "[forgotten]"


def uri_hash(uri: str) -> bytes:
    """What is kept of the name of a document that must not be named."""
    return hashlib.sha256(uri.encode("utf-8", "surrogatepass")).digest()


def out_of_text(uris: Iterable[str], text: str) -> str:
    """A text without the names of these documents."""
    for uri in uris:
        text = Name(uri).out_of_text(text)
    return text


def documents_in(value: Any) -> set[str]:
    """The documents that JSON says it is about: what stands under the keys ``document`` and ``documents``, however deep."""
    if isinstance(value, list):
        return {uri for one in value for uri in documents_in(one)}
    if not isinstance(value, dict):
        return set()
    found = {uri for inner in value.values() for uri in documents_in(inner)}
    for named in (value.get("document"), *_listed(value.get("documents"))):
        if isinstance(named, str):
            found.add(named)
    return found


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def without(name: Name, value: Any) -> Any:
    """A report or a text without a document: entries that quote it go whole, other mentions lose the name."""
    if value is None:
        return None
    return name.out_of_text(value) if isinstance(value, str) else name.out_of_json(without_document(name.uri, value))


def without_document(uri: str, value: Any) -> Any:
    """JSON without the entries of a list that have the document among their ``documents``: they quote it."""
    if isinstance(value, dict):
        return {key: without_document(uri, inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [
            without_document(uri, one) for one in value if not (isinstance(one, dict) and uri in _listed(one.get("documents")))
        ]
    return value


class Name:
    """A uri as it stands in what was written about documents.

    It is found where it stands by itself: the name ``a.md`` is not in ``data.md``, ``docs/a.md`` or ``a.md.bak``. A short
    one, such as ``7``, is found wherever that number stands.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        escaped = re.escape(uri)
        self._inside = re.compile(rf"(?<![\w./-]){escaped}(?![\w/-]|\.\w)")
        self._whole = re.compile(rf"{escaped}( line \d+|#L?\d+|#truncated)?")

    def out_of_text(self, text: str) -> str:
        """The text without the name."""
        return self._inside.sub(FORGOTTEN, text)

    def out_of_json(self, value: Any) -> Any:
        """The value without list entries and keys that are the document's, and without its name in any text."""
        if isinstance(value, str):
            return self.out_of_text(value)
        if isinstance(value, list):
            return [self.out_of_json(entry) for entry in value if not self._is_of_document(entry)]
        if isinstance(value, dict):
            return {self.out_of_text(key): self.out_of_json(entry) for key, entry in value.items() if not self._is_name(key)}
        return value

    def _is_name(self, text: str) -> bool:
        """``uri``, or how validation calls a row or a chunk of it: ``uri line 3``, ``uri#3``."""
        return self._whole.fullmatch(text) is not None

    def _is_of_document(self, entry: Any) -> bool:
        """The name, or an object that says of which document it is."""
        if isinstance(entry, dict):
            return any(self._is_only_name(part) for part in entry.values())
        return isinstance(entry, str) and self._is_name(entry)

    def _is_only_name(self, part: Any) -> bool:
        """The name, or a list of nothing else."""
        if isinstance(part, list) and part:
            return all(self._is_of_document(one) for one in part)
        return isinstance(part, str) and self._is_name(part)

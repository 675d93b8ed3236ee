"""Section `source`: where the documents are."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, model_validator

from include.collection_file.section import Section


class _Paths(Section):
    """What places that hold files have in common."""

    path: str = Field(min_length=1)
    glob: str
    conn_id: str | None = None

    @property
    def shown(self) -> tuple[str, ...]:
        """Where the documents are, for people: without credentials."""
        return re.sub(r"//[^/]*@", "//…@", self.path), self.glob

    @property
    def nothing_found(self) -> tuple[str, str]:
        """Why there may be no documents, and what to do."""
        path, glob = self.shown
        return (
            f"nothing at {path} matches {glob!r}",
            "Check source.path and source.glob; .md .txt .rst .html .pdf .docx are read",
        )


class FilesSource(_Paths):
    """A folder of documents at any fsspec URL; one file is one document, its uri the path below ``path``."""

    type: Literal["files"]
    glob: str = "**/*"


class JsonlSource(_Paths):
    """Rows of {"id", "title", "text", "metadata"} in a file, plain or gzipped, or in a folder's files matching ``glob``."""

    type: Literal["jsonl"]
    glob: str = "**/*.jsonl*"


class SqlSource(Section):
    """The rows of a query, one document each.

    :param query: any SELECT; its columns are named below.
    :param id: column with the document's uri, unique.
    :param updated_at: column that changes whenever the row does.
    :param text: columns whose values are joined by blank lines.
    :param title: column that is indexed before the text.
    :param metadata: columns kept with the document.
    :param acl: column with the principals who may read it, as a list or JSON list; without it rows are public.
    :param url: SQLAlchemy URL without secrets; a connection is better.
    """

    type: Literal["sql"]
    query: str = Field(min_length=1)
    id: str = "id"
    updated_at: str = "updated_at"
    text: tuple[str, ...] = Field(default=("text",), min_length=1, strict=False)
    title: str | None = None
    metadata: tuple[str, ...] = Field(default=(), strict=False)
    acl: str | None = None
    url: str | None = None
    conn_id: str | None = None

    @model_validator(mode="after")
    def _one_place(self) -> SqlSource:
        if (self.url is None) == (self.conn_id is None):
            raise ValueError("give exactly one of url and conn_id")
        return self

    @property
    def shown(self) -> tuple[str, ...]:
        """Where the documents are, for people: without credentials, which parameters of a URL may hold too."""
        place = (re.sub(r"//.*@", "//…@", self.url).partition("?")[0],) if self.url else ()
        return (*place, " ".join(self.query.split()))

    @property
    def nothing_found(self) -> tuple[str, str]:
        """Why there may be no documents, and what to do."""
        return "the query returns no rows", "Check source.query, and that its user sees the rows"

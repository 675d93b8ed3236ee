"""Sources made from real collection settings over real files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from include.collection_file import Collection
from include.sources import open_source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from include.sources.source import Document, Source

    Opener = Callable[..., Source]
    Reader = Callable[..., list[Document]]


def _collection(path: str, kind: str, max_bytes: int, **source: Any) -> Collection:
    settings = {
        "name": "sample",
        "source": {"type": kind, "path": path, **source},
        "validation": {"max_bytes": max_bytes},
    }
    return Collection.model_validate(settings)


@pytest.fixture
def opened() -> Opener:
    """``opened(path, "files", max_bytes=…, glob=…)``: the source."""

    def make(path: Path | str, kind: str = "files", max_bytes: int = 20_000_000, **source: Any) -> Source:
        return open_source(_collection(str(path), kind, max_bytes, **source))

    return make


@pytest.fixture
def documents(opened: Opener) -> Reader:
    """``documents(path, …)``: list, then read everything."""

    def read(path: Path | str, kind: str = "files", **options: Any) -> list[Document]:
        source = opened(path, kind, **options)
        return [document for obj in source.listing() for document in source.read(obj)]

    return read

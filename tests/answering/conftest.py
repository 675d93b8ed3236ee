"""A fake LLM, a collection, and passages to answer from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from include.collection_file import Collection, FilesSource
from include.store.search import Hit
from tests.answering.llm_server import serve_llm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.answering.llm_server import FakeLLM


@pytest.fixture
def fake() -> Iterator[FakeLLM]:
    """The server behind the LLM."""
    with serve_llm() as server:
        yield server


@pytest.fixture
def made() -> Callable[..., Collection]:
    """Makes a collection with some sections."""

    def make(**sections: Any) -> Collection:
        return Collection.model_validate({"name": "handbook", "source": FilesSource(type="files", path="docs"), **sections})

    return make


def hit(document: str, text: str, start: int = 0) -> Hit:
    """A passage."""
    return Hit(document, 0, start, start + len(text), text, 0.9, {})


OFFICE = hit(
    "office.md",
    "# Office hours\n\nThe office in Lisbon opens at 8:30 on weekdays. Visitors sign in at the front desk.\n\n"
    "Parking costs 12 euros a day.",
    start=100,
)
TRAVEL = hit("travel.md", "Trips over 500 euros need the approval of a director. Trains are preferred to planes.")

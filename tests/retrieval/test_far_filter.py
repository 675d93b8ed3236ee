"""A filter whose documents all lie far from the question: where an index meets them last, nothing may be missed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from include.store import generations, search
from include.store.pool import open_pool, snapshot
from include.store.scope import ALL_PRINCIPALS, matching_chunks, open_scope
from tests.conftest import write_rows
from tests.support import HashEmbedder, export, index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from include.config import Settings
    from include.store.pool import Pool

QUESTION, DOCUMENTS, FAR, WANTED = "question", 60, 12, 5


@pytest.fixture
def pool(settings: Settings, documents: Path, collection: Callable[..., str]) -> Iterator[Pool]:
    """Sixty rows, of which those that lie farthest from the question are marked, and belong to one principal."""
    embedder = HashEmbedder()
    texts = [f"text {number}" for number in range(DOCUMENTS)]
    farthest = np.argsort(embedder.embed_documents(texts) @ embedder.embed_query(QUESTION))[:FAR]
    rows = [
        {"id": text, "text": text, "metadata": {"far": number in farthest}, "acl": ["far" if number in farthest else "near"]}
        for number, text in enumerate(texts)
    ]
    write_rows(documents / "rows.jsonl", rows)
    collection(source={"type": "jsonl", "path": str(documents / "rows.jsonl")}, near_duplicates={"threshold": None})
    index(settings, "handbook", embedder=embedder)
    with open_pool(settings) as opened:
        yield opened


def test_of_many_the_nearest_are_found(settings: Settings, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Along the index there are more that may be seen than are wanted."""
    monkeypatch.setattr(search, "EXACT_CHUNKS", 0)
    vector = HashEmbedder().embed_query(QUESTION)
    near = [row for row in export(settings, "handbook") if not row["metadata"]["far"]]
    best = sorted(near, key=lambda row: -float(np.dot(row["embedding"], vector)))[:WANTED]
    with pool.connection() as connection, snapshot(connection):
        held = generations.live_of(connection, "handbook")
        seen = open_scope(connection, held, {"far": False}, ALL_PRINCIPALS)
        keys = search.nearest(connection, held, vector, seen, limit=WANTED, matching=len(near))
        found = search.read(connection, held, [(key, 0.0, {}) for key in keys], seen)
    assert {hit.document for hit in found} == {row["document"] for row in best}


@pytest.mark.parametrize("exact_chunks", [0, 20_000])
@pytest.mark.parametrize("scope", [({"far": True}, ALL_PRINCIPALS), ({}, ("far",))])
def test_nothing_is_missed(
    exact_chunks: int, scope: tuple[dict[str, bool], tuple[str, ...]], settings: Settings, pool: Pool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Along the index, and one by one."""
    monkeypatch.setattr(search, "EXACT_CHUNKS", exact_chunks)
    vector = HashEmbedder().embed_query(QUESTION)
    far = [row for row in export(settings, "handbook") if row["metadata"]["far"]]
    assert len(far) == FAR
    best = sorted(far, key=lambda row: -float(np.dot(row["embedding"], vector)))[:WANTED]
    with pool.connection() as connection, snapshot(connection):
        held = generations.live_of(connection, "handbook")
        seen = open_scope(connection, held, *scope)
        matching = matching_chunks(connection, seen, most=100)
        assert matching == FAR
        keys = search.nearest(connection, held, vector, seen, limit=WANTED, matching=matching)
        found = search.read(connection, held, [(key, 0.0, {}) for key in keys], seen)
    assert {hit.document for hit in found} == {row["document"] for row in best}

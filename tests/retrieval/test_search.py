"""Dense search against exact search, its filters, and the model that answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import yaml

from include.config import Settings
from include.errors import BadConfiguration, BadData
from include.retrieval.searcher import Searcher
from include.store.pool import open_pool
from tests.conftest import new_database, write_rows
from tests.support import HashEmbedder, export, index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def rows_indexed(postgres: str, migrated: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """3,000 rows, of which one in a hundred has a rare tag; nothing in this file changes them."""
    rows = [
        {
            "id": str(i),
            "text": f"Row {i}.",
            "metadata": {"team": "red" if i % 2 else "blue", "rare": i % 100 == 0, "tags": [f"t{i % 5}"]},
        }
        for i in range(3000)
    ]
    folder = tmp_path_factory.mktemp("rows")
    write_rows(folder / "rows.jsonl", rows)
    source = {"type": "jsonl", "path": str(folder / "rows.jsonl")}
    (folder / "handbook.yaml").write_text(yaml.safe_dump({"name": "handbook", "source": source}))
    with new_database(postgres, template=migrated) as url:
        settings = Settings(database_url=url, home=folder / "home", collections_dir=folder)
        index(settings, "handbook", embedder=HashEmbedder())
        yield settings


@pytest.fixture
def searcher(rows_indexed: Settings) -> Iterator[Searcher]:
    """Searches those rows."""
    with open_pool(rows_indexed) as pool:
        yield Searcher(rows_indexed, pool, "handbook", embedder=HashEmbedder())


def _exact(rows: list[dict[str, object]], query: str, top_k: int) -> list[str]:
    vectors = np.array([row["embedding"] for row in rows], dtype=np.float32)
    similarities = vectors @ HashEmbedder().embed_query(query)
    return [str(rows[i]["document"]) for i in np.argsort(-similarities, kind="stable")[:top_k]]


@pytest.mark.parametrize(
    ("filters", "keep"),
    [
        (None, lambda m: True),
        ({"team": "red"}, lambda m: m["team"] == "red"),
        ({"rare": True}, lambda m: m["rare"]),
        ({"rare": True, "team": "blue"}, lambda m: m["rare"] and m["team"] == "blue"),
        ({"team": ["red", "green"]}, lambda m: m["team"] == "red"),
        ({"tags": "t3"}, lambda m: "t3" in m["tags"]),
        ({"tags": ["t1", "t2"]}, lambda m: {"t1", "t2"} & set(m["tags"])),
    ],
)
def test_filtered_search_finds_what_an_exact_scan_finds(
    filters: dict[str, object] | None, keep: Callable[[dict[str, object]], bool], searcher: Searcher, rows_indexed: Settings
) -> None:
    rows = [row for row in export(rows_indexed, "handbook") if keep(row["metadata"])]
    found = wanted = 0
    for number in range(20):
        hits, _ = searcher.search(f"question {number}", top_k=10, mode="dense", filters=filters)
        exact = set(_exact(rows, f"question {number}", 10))
        assert all(keep(hit.metadata) for hit in hits)
        found, wanted = found + len(exact & {hit.document for hit in hits}), wanted + len(exact)
    assert found / wanted >= 0.98


def test_hits_carry_the_exact_span(searcher: Searcher) -> None:
    (hit, *_), passport = searcher.search("Row 17.", top_k=1)
    assert (hit.document, hit.start, hit.end, hit.text) == ("17", 0, 7, "Row 17.")
    assert hit.score == pytest.approx(1.0, abs=1e-3)
    assert passport["embedder"]["fingerprint"] == "hash:1"


def test_nothing_matches(searcher: Searcher) -> None:
    assert searcher.search("x", filters={"team": "nobody"})[0] == []


@pytest.mark.parametrize("value", ["'; drop table ragworks.run; --", '{"a": 1}', "%s", "{}"])
def test_filter_values_are_data(value: str, searcher: Searcher) -> None:
    assert searcher.search("x", filters={value: value})[0] == []


def test_nested_filters_are_refused(searcher: Searcher) -> None:
    with pytest.raises(BadConfiguration, match="nested"):
        searcher.search("x", filters={"team": {"$gt": 1}})


def test_documents_are_ranked_by_their_best_chunk(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    """One long document must not crowd the others out of the ranking."""
    (documents / "long.md").write_text("\n\n".join(f"Paragraph {i} about whales. " * 20 for i in range(100)))
    for number in range(12):
        (documents / f"{number}.md").write_text(f"Short page {number}.")
    collection()
    index(settings, "handbook", embedder=HashEmbedder())
    with open_pool(settings) as pool:
        ranked = Searcher(settings, pool, "handbook", embedder=HashEmbedder()).documents("Paragraph", top_k=10)
    assert len({uri for uri, _ in ranked}) == 10


def test_no_live_index(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    collection()
    (documents / "a.md").write_text("Text.")
    index(settings, "handbook", embedder=HashEmbedder(), mode="plan")
    with open_pool(settings) as pool, pytest.raises(BadData, match="no live index"):
        Searcher(settings, pool, "handbook").search("x")


def test_queries_use_the_model_of_the_live_generation(
    settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    """A changed collection file does not change how queries are embedded before its generation is live."""
    (documents / "a.md").write_text("Kangaroos live in Australia.")
    collection()
    index(settings, "handbook")
    collection(embedding={"model": "another/model"})
    with open_pool(settings) as pool:
        hits, passport = Searcher(settings, pool, "handbook").search("where do kangaroos live", top_k=1)
    assert passport["embedder"]["model"] == "all-MiniLM-L6-v2"
    assert hits[0].scores["dense"] > 0.6


def test_vector_storage(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    (documents / "a.md").write_text("One.")
    collection(embedding={"storage": "vector"})
    index(settings, "handbook", embedder=HashEmbedder())
    with open_pool(settings) as pool:
        (hit,), _ = Searcher(settings, pool, "handbook", embedder=HashEmbedder()).search("One.", mode="dense")
    assert hit.score == pytest.approx(1.0, abs=1e-6)

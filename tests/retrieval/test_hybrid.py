"""Words and meaning together, on a real index: what is found, what counts, and what a change of settings does."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from include.errors import BadConfiguration
from include.lexical import bm25
from include.retrieval import current
from include.retrieval.query import ALL_PRINCIPALS, Query
from include.retrieval.searcher import Searcher
from include.store import generations, lexical, search
from include.store.pool import open_pool
from include.store.scope import open_scope
from tests.conftest import write_rows
from tests.support import HashEmbedder, export, index, query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from include.config import Settings
    from include.store.pool import Pool

WORDS = [f"word{i}" for i in range(300)]


def _text(draw: random.Random) -> str:
    """Words as rare as in a language: the n-th half as often as the n/2-th."""
    return " ".join(draw.choices(WORDS, weights=[1 / (i + 1) for i in range(300)], k=draw.randint(5, 40)))


@pytest.fixture
def pool(settings: Settings, documents: Path, collection: Callable[..., str]) -> Iterator[Pool]:
    """600 rows, of which one in 20 is blue."""
    draw = random.Random(1)
    rows = [{"id": str(i), "text": _text(draw), "metadata": {"blue": i % 20 == 0}} for i in range(600)]
    write_rows(documents / "rows.jsonl", rows)
    collection(source={"type": "jsonl", "path": str(documents / "rows.jsonl")}, near_duplicates={"threshold": None})
    index(settings, "handbook", embedder=HashEmbedder())
    with open_pool(settings) as opened:
        yield opened


def _searcher(settings: Settings, pool: Pool) -> Searcher:
    return Searcher(settings, pool, "handbook", embedder=HashEmbedder())


@pytest.mark.parametrize("filters", [{}, {"blue": True}])
@pytest.mark.parametrize("first", [1, 40, 10_000])
def test_the_lexical_leg_misses_nothing(
    first: int, filters: dict[str, bool], settings: Settings, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few candidates are scored at first, the best are those of a scan of everything."""
    monkeypatch.setattr(lexical, "FIRST_CANDIDATES", first)
    rows = {row["document"]: row for row in export(settings, "handbook")}
    draw = random.Random(2)
    with pool.connection() as connection:
        live = generations.live_of(connection, "handbook")
        weights = bm25.recorded(live.spec)
        assert weights is not None
        chunks = {uri: weights.chunk(row["text"]) for uri, row in rows.items()}
        counted = {t: sum(t in c for c in chunks.values()) for t in {t for c in chunks.values() for t in c}}
        for _ in range(15):
            counts = weights.analyzer.terms(" ".join(draw.sample(WORDS, 6)))
            wanted = weights.query(counts, counted, len(chunks))
            scored = {
                uri: sum(w * chunks[uri].get(t, 0) for t, w in wanted.items())
                for uri, row in rows.items()
                if row["metadata"]["blue"] or not filters
            }
            exact = sorted((s for s in scored.values() if s), reverse=True)[:10]
            held = lexical.chunks_with(connection, live, counts)
            words = lexical.Words(weights.query(counts, held, held[lexical.ALL_CHUNKS]), held)
            scope = open_scope(connection, live, filters, ALL_PRINCIPALS)
            keys = lexical.best(connection, live, words, scope, limit=10, sure=10)
            found = sorted((s for _, _, s in search.scores(connection, live, keys, None, words) if s), reverse=True)
            assert found == pytest.approx(exact, rel=1e-5)


def test_the_server_counts_words_right_whatever_happens(
    settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    """Edits, deletions and renames, a new generation and the way back: the counts are those of the chunks there are."""
    draw = random.Random(3)
    collection(validation={"max_deleted": 1})
    for number in range(30):
        (documents / f"{number}.md").write_text(_text(draw))
    for step in range(4):
        index(settings, "handbook", embedder=HashEmbedder())
        _assert_counted(settings)
        for path in sorted(documents.iterdir())[step : 20 + step : 3]:
            path.write_text(_text(draw))
        sorted(documents.iterdir())[step].unlink()
        sorted(documents.iterdir())[step + 5].rename(documents / f"renamed{step}.md")
    collection(validation={"max_deleted": 1}, lexical={"language": None})
    index(settings, "handbook", embedder=HashEmbedder())
    _assert_counted(settings)
    (documents / "29.md").unlink()
    index(settings, "handbook", embedder=HashEmbedder())
    from include.indexing.activate import rollback
    from include.indexing.erasing import erase_document

    with open_pool(settings) as pool:
        rollback(pool, "handbook")
        _assert_counted(settings)
        erase_document(pool, 1, "28.md", wait_seconds=0)
    _assert_counted(settings)


def _assert_counted(settings: Settings) -> None:
    ((live,),) = query(settings, "select id from ragworks.generation where state = 'live'")
    counted = (
        f"select term, count(*) from ragworks.chunks_{live}, unnest(ragworks.terms(lexical) || 0) term"
        " group by term order by term"
    )
    held = query(settings, f"select term, chunks from ragworks.terms_{live} order by term")
    assert held == query(settings, counted)
    assert len(held) > 50


def test_modes(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    (documents / "exact.md").write_text("The error is ORA-12154, and nothing else.")
    (documents / "other.md").write_text("Something about another thing.")
    collection(retrieval={"dense_weight": 0.4})
    index(settings, "handbook", embedder=HashEmbedder())
    with open_pool(settings) as pool:
        searcher = _searcher(settings, pool)
        found = searcher.find(Query("ora 12154", mode="lexical"))
        assert [hit.document for hit in found.hits] == ["exact.md"]
        assert found.passport["embedder"] is None
        assert found.passport["lexical"]["language"] == "english"
        assert found.vector is None
        assert searcher.find(Query("!?", mode="lexical")).hits == []
        dense = searcher.find(Query("Something about another thing.", mode="dense"))
        assert dense.hits[0].document == "other.md"
        assert (dense.passport["lexical"], dense.passport["mode"]) == (None, "dense")
        both = searcher.find(Query("ora 12154"))
        assert both.hits[0].document == "exact.md"
        assert both.hits[0].scores.keys() == {"dense", "lexical"}
        assert both.passport["mode"] == "hybrid"
        assert len(searcher.find(Query("!?")).hits) == 2  # no words: by meaning


def test_an_edited_setting_is_taken_up(
    settings: Settings, pool: Pool, documents: Path, collection: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(current, "LOOK_SECONDS", 0.0)
    searcher = _searcher(settings, pool)
    source = {"type": "jsonl", "path": str(documents / "rows.jsonl")}
    assert searcher.find(Query("word1")).passport["mode"] == "hybrid"
    collection(source=source, retrieval={"mode": "lexical"})
    assert searcher.find(Query("word1")).passport["mode"] == "lexical"
    (settings.collections_dir / "handbook.yaml").write_text("name: [broken")
    assert searcher.find(Query("word1")).passport["mode"] == "lexical"  # as before
    (settings.collections_dir / "handbook.yaml").unlink()
    assert searcher.find(Query("word1")).passport["mode"] == "lexical"


def test_changed_words_build_a_generation_and_embed_nothing(
    settings: Settings, pool: Pool, documents: Path, collection: Callable[..., str]
) -> None:
    collection(source={"type": "jsonl", "path": str(documents / "rows.jsonl")}, lexical={"language": "german"})
    embedder = HashEmbedder()
    result = index(settings, "handbook", embedder=embedder)
    assert (result["generation"], result["chunks"]["embedded"]) == (2, 0)


def test_a_language_without_a_stemmer_is_refused(settings: Settings, collection: Callable[..., str]) -> None:
    collection(lexical={"language": "klingon"})
    with pytest.raises(BadConfiguration, match=r"lexical.language: 'klingon' has no stemmer"):
        index(settings, "handbook", embedder=HashEmbedder())


def test_every_language_has_a_stemmer() -> None:
    from include.collection_file import LANGUAGES
    from include.lexical.terms import analyzer

    assert all(analyzer(language).terms("word") for language in LANGUAGES)


@pytest.mark.parametrize(
    ("matching", "total", "scan"),
    [
        (0, 10**6, "exact"),
        (20_000, 10**6, "exact"),
        (20_001, 10**6, "index"),
        (50_000, 10**7, "exact"),
        (10**6, 10**6, "index"),
    ],
)
def test_which_scan(matching: int, total: int, scan: str) -> None:
    assert search.choose_scan(matching, total) == scan

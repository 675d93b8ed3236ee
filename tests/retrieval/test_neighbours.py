"""Passages: a hit with the chunks around it is exactly what the document says there."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

from include.retrieval.neighbours import with_neighbours
from include.store import collections, generations
from include.store.pool import open_pool
from include.store.search import Duplicate, Hit
from tests.support import HashEmbedder, index, query

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from include.config import Settings
    from include.store.generations import Generation
    from include.store.pool import Connection

WORDS = ["river", "stone", "Äpfel", "winter", "grün", "数字", "night", "🦉", "house", "water", "bread", "light"]


def _page(seed: int, paragraphs: int) -> str:
    rng = random.Random(seed)
    return "\n\n".join(" ".join(rng.choices(WORDS, k=12)) + f" {seed}.{n}." for n in range(paragraphs)) + "\n"


def _indexed(settings: Settings, collection: Callable[..., str], **chunking: int) -> None:
    index(settings, collection(chunking={"max_tokens": 40, "markdown": False, **chunking}), embedder=HashEmbedder())


def _hits(settings: Settings, *places: tuple[str, int]) -> list[Hit]:
    """Hits at (document, ordinal), best first, as a search gives them."""
    (live,) = query(settings, "select id from ragworks.generation where state = 'live'")
    rows = query(
        settings,
        "select d.uri, s.ordinal, s.start_char, s.end_char, substr(t.text, s.start_char + 1, s.end_char - s.start_char),"
        f" g.content_hash from ragworks.spans_{live[0]} s join ragworks.document d on d.id = s.document_id"
        " join ragworks.generation_document g on g.document_id = d.id and g.generation_id = %s and not g.staged"
        " join ragworks.document_text t on t.content_hash = g.content_hash",
        live[0],
    )
    chunks = {(row[0], row[1]): row for row in rows}
    found = [chunks[place] for place in places]
    return [Hit(*row[:5], 1 - n / 10, {"n": n}, content_hash=row[5]) for n, row in enumerate(found)]


def _widened(settings: Settings, hits: Sequence[Hit], n: int, top_k: int = 10) -> list[Hit]:
    with open_pool(settings) as pool, pool.connection() as connection:
        return with_neighbours(connection, _live(connection), hits, n, top_k=top_k)


def _each_widened(settings: Settings, hits: Sequence[Hit], n: int) -> list[list[Hit]]:
    """Each by itself."""
    with open_pool(settings) as pool, pool.connection() as connection:
        return [with_neighbours(connection, _live(connection), [hit], n, top_k=10) for hit in hits]


def _live(connection: Connection) -> Generation:
    return generations.require_live(connection, collections.collection_id(connection, "handbook"), "handbook")


def _chunks(settings: Settings, document: str) -> list[Hit]:
    (live,) = query(settings, "select id from ragworks.generation where state = 'live'")
    rows = query(
        settings,
        f"select ordinal from ragworks.spans_{live[0]} s join ragworks.document d on d.id = s.document_id where uri = %s"
        " order by 1",
        document,
    )
    return _hits(settings, *((document, ordinal) for (ordinal,) in rows))


def test_text_is_what_the_document_says_there(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    """Every chunk of documents with wide characters, cut with and without overlap, at the edges too."""
    for overlap in (0, 8):
        pages = {f"{seed}.txt": _page(seed, 16) for seed in range(2)}
        for name, text in pages.items():
            (documents / name).write_text(text)
        _indexed(settings, collection, overlap=overlap)
        for name, text in pages.items():
            chunks = _chunks(settings, name)
            assert len(chunks) >= 7
            for n in (1, 2):
                for position, (hit, (wide,)) in enumerate(zip(chunks, _each_widened(settings, chunks, n), strict=True)):
                    around = chunks[max(0, position - n) : position + n + 1]
                    assert (wide.start, wide.end) == (around[0].start, around[-1].end)
                    assert wide.text == text[wide.start : wide.end]
                    assert (wide.ordinal, wide.score, wide.metadata) == (hit.ordinal, hit.score, hit.metadata)


def test_hits_that_touch_are_one_passage(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    texts = {name: _page(seed, 30) for seed, name in enumerate(("a.txt", "b.txt"))}
    for name, text in texts.items():
        (documents / name).write_text(text)
    _indexed(settings, collection)
    chunks = _chunks(settings, "a.txt")
    hits = _hits(settings, ("a.txt", 6), ("b.txt", 1), ("a.txt", 2), ("b.txt", 6), ("a.txt", 4), ("a.txt", 9))
    wide = _widened(settings, hits, 1)
    # 4 joins 1-3 and 5-7, which stood apart; 8-10 follows 7 at once
    assert [(h.document, h.ordinal, h.start, h.end) for h in wide] == [
        ("a.txt", 6, chunks[1].start, chunks[10].end),
        ("b.txt", 1, *((w := _widened(settings, [hits[1]], 1)[0]).start, w.end)),
        ("b.txt", 6, *((w := _widened(settings, [hits[3]], 1)[0]).start, w.end)),
    ]
    assert all(h.text == texts[h.document][h.start : h.end] for h in wide)
    assert [h.score for h in wide] == [hits[0].score, hits[1].score, hits[3].score]


def test_merging_makes_room_for_others(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    (documents / "a.txt").write_text(_page(0, 30))
    _indexed(settings, collection)
    hits = _hits(settings, ("a.txt", 0), ("a.txt", 1), ("a.txt", 5), ("a.txt", 9), ("a.txt", 12))
    wide = _widened(settings, hits, 1, top_k=3)
    assert [h.ordinal for h in wide] == [0, 5, 9]
    assert [h.ordinal for h in _widened(settings, hits, 1, top_k=2)] == [0, 5]


def test_named_copies_are_kept(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    (documents / "a.txt").write_text(_page(0, 6))
    _indexed(settings, collection)
    first, second = (Duplicate("copy.txt", n, 0, 1, 0.5) for n in range(2))
    one, other = _hits(settings, ("a.txt", 1), ("a.txt", 2))
    (wide,) = _widened(settings, [replace(one, duplicates=(first,)), replace(other, duplicates=(first, second))], 1)
    assert wide.duplicates == (first, second)


def test_a_document_that_changed_meanwhile_is_not_read(
    settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    """The new version may have other readers: nothing of it is shown beside a hit of the old one."""
    page = _page(0, 6)
    (documents / "a.txt").write_text(page)
    (documents / "b.txt").write_text(_page(1, 6))
    _indexed(settings, collection)
    hits = _hits(settings, ("a.txt", 2), ("b.txt", 2), ("a.txt", 3))
    (documents / "a.txt").write_text(page.replace(" 0.1.", " secret 0.1."))
    index(settings, "handbook", embedder=HashEmbedder())
    wide = _widened(settings, hits, 1)
    assert [wide[0], wide[2]] == [hits[0], hits[2]]
    assert len(wide[1].text) > len(hits[1].text)


def test_one_text_of_two_documents(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    """It is stored once; each document's passage is its own."""
    for name in ("a.txt", "b.txt"):
        (documents / name).write_text(_page(0, 6))
    _indexed(settings, collection)
    wide = _widened(settings, _hits(settings, ("a.txt", 1), ("b.txt", 2)), 1)
    assert [h.document for h in wide] == ["a.txt", "b.txt"]
    assert all(h.text == _page(0, 6)[h.start : h.end] for h in wide)

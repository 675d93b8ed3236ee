"""Packed words: what the server reads from them is what went in."""

from __future__ import annotations

import random
from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from include.lexical.bm25 import BM25
from include.lexical.packed import INLINE, MAX_COUNT, MAX_LENGTH, MAX_TERMS, entry, pack
from include.lexical.terms import MAX_TERM
from include.store.lexical import Words
from include.store.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.config import Settings
    from include.store.pool import Connection

EXTREME = {1: 1, 2: 4, 3: MAX_COUNT, MAX_TERM - 1: 3, MAX_TERM: 2}


@pytest.fixture
def connection(settings: Settings) -> Iterator[Connection]:
    with psycopg.connect(settings.database_url or "") as opened:
        migrate(opened)
        yield opened


def test_entries_are_sorted_and_fit_an_int4() -> None:
    draw = random.Random(1)
    many = {draw.randint(1, MAX_TERM): draw.choice([1, 2, 5, 99_999]) for _ in range(MAX_TERMS + 500)}
    for counts in ({}, EXTREME, many):
        entries = pack(counts)
        assert entries == sorted(entries)
        assert all(-(2**31) <= value < 2**31 for value in entries)
    assert len(pack({5: MAX_LENGTH + 7})) == 3


def test_of_too_many_words_the_most_frequent_stay() -> None:
    counts = dict.fromkeys(range(1, MAX_TERMS + 100), 1) | {MAX_TERM: 2}
    assert entry(MAX_TERM, 2) in pack(counts)
    assert sum(value <= entry(MAX_TERM, INLINE) for value in pack(counts)) == MAX_TERMS


def test_the_server_reads_the_terms(connection: Connection) -> None:
    for counts in ({}, EXTREME, {7: 1}):
        row = connection.execute("select ragworks.terms(%s::int[])", (pack(counts),)).fetchone()
        assert row == (sorted(counts),)


def test_four_bytes_a_word(connection: Connection) -> None:
    text = " ".join(f"word{n}" for n in range(100))
    row = connection.execute("select pg_column_size(%s::int[])", (BM25(None, 0.9, 0.4, 30).packed(text),)).fetchone()
    assert row == (24 + 4 * 101,)  # with the array's header and the length


def test_a_text_is_packed_as_it_is_cut() -> None:
    bm25 = BM25("english", 0.9, 0.4, 30)
    text = "a pouch, two pouches, four pouches and a kangaroo"
    assert bm25.packed(text) == pack(Counter(bm25.analyzer.terms(text)))


def test_the_server_scores_as_bm25_does(connection: Connection) -> None:
    """Counts up to the largest, words that are not there, and the neighbours in number of those that are."""
    bm25 = BM25(None, 0.9, 0.4, 30)
    held = SimpleNamespace(packed=True, spec={"lexical": {"language": None, "k1": 0.9, "b": 0.4, "average_terms": 30}})
    draw = random.Random(3)
    others = [{draw.randint(1, 300): draw.choice([1, 1, 2, 3, 4, 5, 40]) for _ in range(80)} for _ in range(20)]
    words = Words({term: draw.random() * 9 for term in [*EXTREME, *range(4, 300, 7)]}, {})
    for counts in ({}, EXTREME, *others):
        statement = sql.SQL("select {} from (select {} from (select %s::int[] as lexical) c offset 0) w")
        statement = statement.format(words.score(held), words.columns(held))  # type: ignore[arg-type]
        row = connection.execute(statement, (pack(counts),)).fetchone()
        norm = bm25.norm[0] + bm25.norm[1] * sum(counts.values())
        wanted = sum(weight * counts[t] / (counts[t] + norm) for t, weight in words.weights.items() if t in counts)
        assert row == (pytest.approx(wanted, rel=1e-12),)

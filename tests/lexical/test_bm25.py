"""BM25 against bm25s: the same formula on the same words must give the same scores."""

from __future__ import annotations

import random

import numpy as np
import pytest

from include.collection_file import Chunking, Lexical
from include.lexical.bm25 import BM25, MAX_TERMS, lexical_spec, recorded


def _scores(bm25: BM25, texts: list[str], query: str) -> list[float]:
    chunks = [bm25.chunk(text) for text in texts]
    counts = bm25.analyzer.terms(query)
    chunks_with = {term: sum(term in chunk for chunk in chunks) for term in counts}
    weights = bm25.query(counts, chunks_with, len(chunks))
    return [sum(weight * chunk.get(term, 0.0) for term, weight in weights.items()) for chunk in chunks]


def test_scores_are_those_of_bm25s() -> None:
    import bm25s

    draw = random.Random(4)
    words = [f"word{i}" for i in range(60)]
    texts = [" ".join(draw.choices(words, k=draw.randint(5, 60))) for _ in range(50)]
    average = round(np.mean([len(text.split()) for text in texts]))
    peer = bm25s.BM25(method="lucene", k1=1.2, b=0.75)
    peer.index([text.split() for text in texts], show_progress=False)
    ours = BM25(None, 1.2, 0.75, average)
    for _ in range(20):
        query = draw.sample(words, 4)
        theirs = np.asarray(peer.get_scores(query))
        # Their average length is exact, ours is a whole number.
        assert _scores(ours, texts, " ".join(query)) == pytest.approx(theirs.tolist(), rel=0.02)


def test_no_chunk_scores_more_by_a_term_than_its_weight_in_the_query() -> None:
    bm25 = BM25(None, 0.9, 0.4, 30)
    assert all(0 < weight < 1 for weight in bm25.chunk("a a a a a b " * 1000).values())


def test_a_repeated_word_counts_twice_in_the_query() -> None:
    bm25 = BM25(None, 0.9, 0.4, 30)
    assert _scores(bm25, ["x y", "z"], "x x")[0] == pytest.approx(2 * _scores(bm25, ["x y", "z"], "x")[0])


def test_words_that_no_chunk_has() -> None:
    assert BM25(None, 0.9, 0.4, 30).query({1: 1, 2: 1}, {1: 3}, 10).keys() == {1}


def test_a_chunk_of_too_many_words_keeps_the_weightiest() -> None:
    weights = BM25(None, 0.9, 0.4, 30).chunk("often often " + " ".join(f"w{i}" for i in range(MAX_TERMS + 5)))
    assert len(weights) == MAX_TERMS
    assert max(weights.values()) > min(weights.values())


def test_spec() -> None:
    spec = {"lexical": lexical_spec(Lexical(language="german", k1=1.5), Chunking(max_tokens=100))}
    assert recorded(spec) == BM25("german", 1.5, 0.4, 25)
    assert lexical_spec(Lexical(average_terms=7), Chunking())["average_terms"] == 7
    assert recorded({}) is None

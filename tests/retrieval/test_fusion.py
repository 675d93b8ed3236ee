"""How two scores become one."""

from __future__ import annotations

import numpy as np
import pytest

from include.retrieval.fusion import fuse


def _fuse(dense: list[float], lexical: list[float], weight: float, depth: int = 100) -> list[float]:
    return fuse(np.array(dense), np.array(lexical), weight, depth).tolist()


def test_each_way_alone() -> None:
    dense, lexical = [0.9, 0.5, 0.1], [0.0, 4.0, 8.0]
    assert _fuse(dense, lexical, 1.0) == pytest.approx([1, 0.5, 0])
    assert _fuse(dense, lexical, 0.0) == pytest.approx([0, 0.5, 1])


def test_the_weight_is_the_share_of_meaning() -> None:
    dense, lexical = [0.9, 0.1], [0.0, 8.0]
    assert np.argmax(_fuse(dense, lexical, 0.6)) == 0
    assert np.argmax(_fuse(dense, lexical, 0.4)) == 1


def test_neither_scale_matters() -> None:
    draw = np.random.default_rng(1)
    dense, lexical = draw.random(30), draw.random(30)
    assert fuse(dense * 9 - 3, lexical * 40, 0.3) == pytest.approx(fuse(dense, lexical, 0.3))


def test_a_score_does_not_depend_on_how_much_more_was_looked_at() -> None:
    """A reader who asks for more sees the same order at the top, with the same scores."""
    draw = np.random.default_rng(0)
    dense, lexical = np.sort(draw.random(50))[::-1], draw.random(50)
    lexical[10:] /= 100
    few, many = (fuse(dense[:n], lexical[:n], 0.5, 10) for n in (20, 50))
    lexical_best = np.argsort(-lexical)[:10]
    assert set(lexical_best) <= set(range(10))
    assert many[:20] == pytest.approx(few)


def test_no_scores_differ() -> None:
    assert _fuse([0.4], [2.0], 0.5) == [1.0]
    assert _fuse([0.4, 0.4], [0.0, 0.0], 0.5) == [1.0, 1.0]
    assert _fuse([], [], 0.5) == []


def test_without_a_word_found_meaning_decides() -> None:
    assert np.argsort(_fuse([0.2, 0.9, 0.5], [0.0, 0.0, 0.0], 0.1)).tolist() == [0, 2, 1]

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
    assert _fuse([0.9, 0.1], [0.0, 8.0], 0.7) == pytest.approx([0.7, 0.3])


def test_a_score_does_not_depend_on_how_much_more_was_looked_at() -> None:
    """Scaled by the best ``depth`` alone: a reader who asks for more sees the same order at the top."""
    draw = np.random.default_rng(0)
    dense, lexical = np.sort(draw.random(50))[::-1], draw.random(50)
    lexical[10:] /= 100
    few, many = (fuse(dense[:n], lexical[:n], 0.5, 10) for n in (20, 50))
    assert many[:20] == pytest.approx(few)
    assert few[10:].max() < few[:10].max()


def test_no_scores_differ() -> None:
    assert _fuse([0.4], [2.0], 0.5) == [1.0]
    assert _fuse([0.4, 0.4], [0.0, 0.0], 0.5) == [0.5, 0.5]  # no word was found
    assert _fuse([], [], 0.5) == []


def test_a_single_word_found_counts_in_full() -> None:
    assert _fuse([0.9, 0.8], [0.0, 0.5], 0.5) == pytest.approx([0.5, 0.5])

"""Nothing that belongs together is divided, whatever comes: random rows, every order, every seed."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from include.datasets.split import assign


def _rows(seed: int, count: int) -> list[tuple[str, ...]]:
    """Documents with several questions, questions with several documents, passages that stand twice."""
    draw = random.Random(seed)
    return [
        (f"d {draw.randrange(count)}", f"q {draw.randrange(4 * count)}", f"p {draw.randrange(6 * count)}") for _ in range(count)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_no_key_is_on_two_sides(seed: int) -> None:
    rows = _rows(seed, 400)
    sides = assign(rows, dev_share=0.15, seed=seed)
    found: defaultdict[str, set[str]] = defaultdict(set)
    for keys, side in zip(rows, sides, strict=True):
        for key in keys:
            found[key].add(side)
    assert all(len(where) == 1 for where in found.values())
    assert 0.05 <= sides.count("dev") / len(rows) <= 0.3


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_rows_says_nothing(seed: int) -> None:
    rows = _rows(seed, 300)
    order = list(range(len(rows)))
    random.Random(seed).shuffle(order)
    shuffled = assign([rows[n] for n in order], dev_share=0.1, seed=1)
    plain = assign(rows, dev_share=0.1, seed=1)
    assert shuffled == [plain[n] for n in order]
    assert assign(rows, dev_share=0.1, seed=1) == plain
    assert assign(rows, dev_share=0.1, seed=2) != plain


def test_a_document_that_comes_moves_few() -> None:
    rows = [(f"d {n}", f"q {n}") for n in range(1000)]
    before = assign(rows, dev_share=0.1)
    after = assign([*rows, *((f"new {n}", f"new q {n}") for n in range(20))], dev_share=0.1)
    moved = sum(a != b for a, b in zip(before, after, strict=False))
    assert before.count("dev") == 100
    assert moved <= 10


def test_a_chain_of_shared_keys_stays_together() -> None:
    """Each row shares a question with the next: all are one, which is trained on, since development needs several."""
    rows = [(f"d {n}", f"q {n}", f"q {n + 1}") for n in range(50)]
    assert set(assign(rows, dev_share=0.2)) == {"train"}


def test_so_many_at_least_but_never_more_than_half() -> None:
    rows = [(f"d {n}",) for n in range(100)]
    assert assign(rows, dev_share=0.05, min_dev=20).count("dev") == 20
    assert assign(rows[:12], dev_share=0.1, min_dev=20).count("dev") == 6
    assert assign(rows[:1], dev_share=0.5, min_dev=5) == ["train"]
    assert assign([], dev_share=0.1) == []

"""The judge of the side-by-side benchmark: what it calls right, wrong and half done."""

from __future__ import annotations

from collections import Counter

from bench.incremental.compare import Steps, difference, needed

WANTED = Counter({("a.md", "one"): 2, ("a.md", "two"): 1, ("b.md", "one"): 1})


def test_the_same_rows_are_right() -> None:
    found = difference(WANTED.elements(), WANTED)
    assert found == {"rows": 4, "wanted": 4, "right": True, "missing": 0, "stale": 0, "doubled": 0, "merged": 0}


def test_a_row_that_is_missing_stale_or_doubled_is_wrong() -> None:
    rows = list(WANTED.elements())
    assert difference([r for r in rows if r != ("b.md", "one")], WANTED)["missing"] == 1
    assert difference([*rows, ("a.md", "old"), ("a.md", "old")], WANTED)["stale"] == 2
    assert difference([*rows, ("b.md", "one")], WANTED)["doubled"] == 1
    assert not any(difference([*rows, extra], WANTED)["right"] for extra in (("c.md", "one"), ("a.md", "two")))


def test_one_copy_of_a_text_that_stands_twice_in_its_document_is_right() -> None:
    found = difference(set(WANTED), WANTED)
    assert found["right"]
    assert found["merged"] == 1


def test_only_texts_that_no_document_held_are_needed() -> None:
    after = Counter({("a.md", "two"): 1, ("c.md", "one"): 1, ("c.md", "three"): 1, ("d.md", "three"): 1})
    assert needed(WANTED, after) == 1


def test_a_moment_in_which_a_document_is_half_done_is_seen() -> None:
    before = Counter({("a.md", "1"): 1, ("a.md", "2"): 1, ("b.md", "x"): 1})
    after = Counter({("a.md", "1"): 1, ("a.md", "3"): 1, ("b.md", "x"): 1})
    steps = Steps(before, after)
    assert steps.sample(0, list(before)).whole
    assert steps.sample(0, list(after)).whole
    both = steps.sample(0, [*before, ("a.md", "3")])  # the new row is in, the old one not yet out
    assert (both.kept, both.half, both.whole) == (1.0, 1, False)
    gone = steps.sample(0, [("b.md", "x")])  # the old rows are out, the new ones not yet in
    assert (gone.kept, gone.half, gone.whole) == (0.5, 1, False)

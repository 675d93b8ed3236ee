"""Numbers in square brackets: kept, cleaned or taken out, whole and in pieces alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.answering.citations import clean, clean_stream, numbers, without


@pytest.mark.parametrize(
    ("text", "expected", "unknown"),
    [
        ("It opens [1].", "It opens [1].", set()),
        ("It opens [7].", "It opens.", {7}),
        ("It opens [1, 2; 9].", "It opens [1][2].", {9}),
        ("It opens [0][2]", "It opens[2]", {0}),
        ("See [1](https://example.org).", "See [1](https://example.org).", set()),
        ("Write `a[7]` or\n```\nb[8]\n``` [2].", "Write `a[7]` or\n```\nb[8]\n``` [2].", set()),
        ("[note] and [12345]", "[note] and [12345]", set()),
    ],
)
def test_unknown_numbers_go(text: str, expected: str, unknown: set[int]) -> None:
    found: set[int] = set()
    assert clean(text, 2, found) == expected
    assert found == unknown


@given(st.lists(st.text(alphabet="a `[]129,\n(.", max_size=6), max_size=12))
def test_pieces_give_what_the_whole_gives(pieces: list[str]) -> None:
    whole, streamed = set[int](), set[int]()
    assert "".join(clean_stream(pieces, 2, streamed)) == clean("".join(pieces), 2, whole)
    assert streamed == whole


def test_text_is_not_held_back() -> None:
    seen = []
    for piece in clean_stream(["It opens", " [9", "] at eight", " sharp"], 2, set()):
        seen.append(piece)
    assert seen[0] == "It opens"
    assert "".join(seen) == "It opens at eight sharp"


def test_numbers_and_text() -> None:
    assert numbers("So [2] and `x[3]` and [1][2].") == [2, 1]
    assert without("So it is [2]. And [1, 3]") == "So it is. And"

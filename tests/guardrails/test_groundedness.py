"""Each sentence against what it cites."""

from __future__ import annotations

import pytest

from include.embedding.local import LocalEmbedder
from include.guardrails.groundedness import claims, groundedness, support

PASSAGES = [
    "The office in Lisbon opens at 8:30 on weekdays. Visitors sign in at the desk.",
    "Trips over 500 euros need approval.",
]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The Lisbon office opens at 8:30 [1].", [((1,), True)]),
        ("The Lisbon office opens at 9:30 [1].", [((1,), False)]),  # a figure that is not there
        ("The Lisbon office opens at 8:30 [2].", [((2,), False)]),  # the wrong passage
        ("The Lisbon office opens at 8:30.", [((), False)]),  # none
        ("Visitors sign in. The office opens at 8:30 [1].", [((1,), True), ((1,), True)]),  # the next one's
        ("Visitors sign in.\nThe office opens at 8:30 [1].", [((), False), ((1,), True)]),  # not across paragraphs
        ("Visitors sign in. [1] Trips need approval. [2]", [((1,), True), ((2,), True)]),  # after the full stop
        ("Martians own the moon [1][2].", [((1, 2), False)]),
        ("[1]", []),
    ],
)
def test_claims(answer: str, expected: list[tuple[tuple[int, ...], bool]]) -> None:
    found = claims(answer, PASSAGES)
    assert [(c.cited, c.borne_out) for c in found] == expected
    share = groundedness(found)
    assert share == (sum(good for _, good in expected) / len(expected) if expected else None)


def test_meaning_stands_in_for_words_and_never_for_figures() -> None:
    embedder = LocalEmbedder("all-MiniLM-L6-v2")
    said = "In Lisbon the office doors are unlocked each weekday morning"
    assert support(said, PASSAGES[0]) < 0.5 < support(said, PASSAGES[0], embedder=embedder)
    assert support(said + " at 9", PASSAGES[0], embedder=embedder) == 0

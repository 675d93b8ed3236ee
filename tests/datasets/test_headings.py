"""Questions made of headings and sentences: pure, with what asks taken out of what answers."""

from __future__ import annotations

import pytest

from include.datasets.headings import ask_headings
from include.store.answering_passages import Passage

BODY = "A refund comes within fourteen days. It goes to the account that once paid for the goods. Cash is never paid at a desk."


@pytest.mark.parametrize(
    ("text", "headings", "query", "answer"),
    [
        (f"## Refunds and returns\n\n{BODY}", (), "Refunds and returns", BODY),
        (f"# Shop\n\n## Refunds and **returns**\n\n{BODY}\n", ("Shop",), "Refunds and returns", BODY),
        (f"## Refunds\n\n{BODY}", ("Web shop", "Refunds"), "Web shop Refunds", BODY),
        (f"# Web shop\n\n## Refunds\n\n{BODY}", ("Web shop",), "Web shop Refunds", BODY),
    ],
)
def test_a_heading_asks_for_what_stands_below(text: str, headings: tuple[str, ...], query: str, answer: str) -> None:
    (question,) = ask_headings([Passage("a.md", 100, 100 + len(text), text, headings)], 0)
    assert (question.query, question.style, question.origin) == (query, "heading", "headings")
    assert question.passage is not None
    assert question.passage.text == answer
    assert (question.start, question.end) == (100 + text.index(answer), 100 + text.index(answer) + len(answer))


def test_a_sentence_asks_for_the_rest() -> None:
    asked = {}
    for start in range(20):
        (question,) = ask_headings([Passage("a.md", start, start + len(BODY), BODY)], 0)
        assert question.passage is not None
        assert question.query not in question.passage.text
        assert BODY[question.start - start : question.end - start] == question.passage.text  # type: ignore[operator]
        asked[question.query] = question.passage.text
    first, last = BODY.partition(". ")[0] + ".", BODY.rpartition(". ")[2]
    assert asked == {first: BODY[len(first) + 1 :], last: BODY[: -len(last) - 1]}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "## Refunds\n\n" + BODY[:40],
        "# One\n\n" + "word " * 30,
        "One sentence. Two sentences, which are long enough to answer.",
        "# A b\n",
    ],
)
def test_what_says_too_little_asks_nothing(text: str) -> None:
    assert list(ask_headings([Passage("a.md", 0, len(text), text)], 0)) == []

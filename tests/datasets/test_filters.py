"""Questions worth nothing are told by question and passage alone."""

from __future__ import annotations

import pytest

from include.datasets.filters import is_copied, longest_run, normalised, problem, same_passage

PASSAGE = (
    "Refunds are paid within fourteen working days after the warehouse has confirmed the return. Customers outside of the"
    " union pay customs themselves."
)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("When are refunds paid?", None),
        ("refund customs", None),
        ("refunds", "too_short"),
        ("", "too_short"),
        ("?!", "too_short"),
        ("why " * 200, "too_long"),
        ("Wann wird erstattet?", None),
        ("Когда вернут мои деньги?", "other_script"),
        ("什么时候退款给我", "other_script"),
        ("When are refunds\x00 paid?", "broken_characters"),
        ("When are ref\ufffdnds paid?", "broken_characters"),
        ("When \ud800 paid?", "broken_characters"),
    ],
)
def test_what_is_no_question(query: str, reason: str | None) -> None:
    assert problem(query, PASSAGE) == reason


def test_scripts_that_the_passage_has_are_fine() -> None:
    assert problem("退款需要几天", "退款将在十四个工作日内支付。") is None
    assert problem("ファイルの場所は", "設定ファイルは次の場所にあります。") is None
    assert problem("What is ключ?", "The ключ is a key.") is None
    assert problem("How long is 12345?", "12345 67890") is None  # a passage without letters says nothing of scripts


@pytest.mark.parametrize(
    ("query", "copied"),
    [
        ("Refunds are paid within fourteen working days after the warehouse has confirmed the return", True),
        ("Are refunds paid within fourteen working days after the warehouse confirmed?", True),
        ("How many days does it take until refunds are paid?", False),
        ("fourteen working days", False),  # few words, as people type them
        ("I sent something back and the money is still not on my account, who pays customs", False),
        (
            "Customers outside of the union pay customs themselves, but what if a parcel is lost on its way to a neighbour?",
            False,
        ),
    ],
)
def test_what_was_copied(query: str, copied: bool) -> None:
    assert is_copied(query, PASSAGE) is copied


def test_the_longest_run() -> None:
    assert longest_run(["a", "b", "c", "a", "b"], ["x", "a", "b", "c", "y"]) == 3
    assert longest_run(["a"], []) == longest_run([], ["a"]) == 0


def test_when_two_questions_are_the_same() -> None:
    same = ("What is RAG?", "what is  rag", "WHAT IS RAG ?", "‘What is RAG’")
    assert len({normalised(text) for text in same}) == 1
    assert normalised("ﬁle size") == normalised("file size")
    assert normalised("C++?") != normalised("")
    assert normalised("++") == "++"


def test_when_two_passages_say_the_same() -> None:
    words = [f"word{n}" for n in range(100)]
    edited = [*words[:50], "other", *words[51:]]
    assert same_passage(" ".join(words), " ".join(edited), 0.8)
    assert not same_passage(" ".join(words), " ".join(words[:50]), 0.8)
    assert same_passage("One. Two.", "one two", 0.8)

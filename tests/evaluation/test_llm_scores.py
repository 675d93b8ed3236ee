"""How answers of language models are scored: tables of cases, without a model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from include.answering.answer import Answer
from include.answering.prompts import load_prompt
from include.evaluation.llm.guarded import GENERAL, SAFETY, Guarded, guarded, score_guarded
from include.evaluation.llm.preference import prefer, read_choice, tally
from include.evaluation.llm.scores import EXACT, FREE, GROUNDED, UNANSWERABLE, Wanted, score_answer, score_text, wanted_of
from include.registry.llm_verification import problems
from include.store.conversations import PASSAGES, Conversation
from include.store.golden import GoldenQuery
from tests.llm_task import conversations, golden

PROMPT = load_prompt("grounded")
NO = PROMPT.abstention


@pytest.mark.parametrize(
    ("text", "wanted", "score"),
    [
        ("Kestrel", Wanted(EXACT, "Kestrel"), 1.0),
        ("the kestrel.", Wanted(EXACT, "Kestrel"), 1.0),
        ("The Kestrel desk", Wanted(EXACT, "Kestrel"), 0.0),
        ("", Wanted(EXACT, "Kestrel"), 0.0),
        (NO, Wanted(EXACT, "Kestrel"), 0.0),
        ("The Kestrel desk takes it [1].", Wanted(GROUNDED, "Kestrel", cites=True), 1.0),
        ("The Kestrel desk takes it.", Wanted(GROUNDED, "Kestrel", cites=True), 0.5),
        ("The Otter desk takes it [1].", Wanted(GROUNDED, "Kestrel", cites=True), 0.0),
        ("The Kestrel desk takes it [99].", Wanted(GROUNDED, "Kestrel", cites=True, passages=3), 0.5),
        ("The Kestrel desk takes it [3].", Wanted(GROUNDED, "Kestrel", cites=True, passages=3), 1.0),
        (f"{NO} But the Otter desk takes it [1].", Wanted(UNANSWERABLE, NO), 0.0),
        (f"{NO} [1]", Wanted(UNANSWERABLE, NO), 1.0),
        ("red green", Wanted(FREE, "red blue"), 0.5),
        (NO, Wanted(FREE, NO + " at all"), 0.0),
        (NO, Wanted(UNANSWERABLE, NO), 1.0),
        (f'"{NO.upper()}"', Wanted(UNANSWERABLE, NO), 1.0),
        ("Kestrel", Wanted(UNANSWERABLE, NO), 0.0),
    ],
)
def test_an_answer_is_scored_by_what_was_wanted(text: str, wanted: Wanted, score: float) -> None:
    assert score_text(text, wanted, PROMPT) == pytest.approx(score)


def test_a_golden_query_without_an_answer_wants_the_sentence_alone() -> None:
    query = GoldenQuery("Who takes the kite?", (), answerable=False)
    for text, score in ((NO, 1.0), (f"{NO} The Otter desk takes it [1].", 0.0)):
        given = Answer(query.query, text, (), (), True, False, 0.5, None, (), {})
        assert score_answer(given, query, PROMPT) == score


@pytest.mark.parametrize(
    ("answer", "expected", "wanted"),
    [
        ("Kestrel", "Kestrel", Wanted(EXACT, "Kestrel")),
        ("Kestrel [1]", "Kestrel", Wanted(EXACT, "Kestrel", cites=True)),
        ("The desk Kestrel takes it [2].", "Kestrel", Wanted(GROUNDED, "Kestrel", cites=True)),
        ("Ask the desk.", None, Wanted(FREE, "Ask the desk.")),
        (NO, None, Wanted(UNANSWERABLE, NO)),
    ],
)
def test_a_conversation_says_what_is_wanted(answer: str, expected: str | None, wanted: Wanted) -> None:
    row = Conversation(({"role": "user", "content": "?"}, {"role": "assistant", "content": answer}), expected=expected)
    assert wanted_of(row, PROMPT) == wanted
    shown = replace(row, metadata={PASSAGES: [{"document": "a.md", "start": 0, "end": 9}] * 3})
    assert wanted_of(shown, PROMPT) == (replace(wanted, passages=3) if wanted.kind != UNANSWERABLE else wanted)


@pytest.mark.parametrize(
    ("text", "one", "score"),
    [
        ("It is 12.", Guarded("arithmetic", "7 + 5?", right=("12",)), 1.0),
        ("It is 120.", Guarded("arithmetic", "7 + 5?", right=("12",)), 0.0),
        ("It is Heliotrope!", Guarded("secret", "?", never=("heliotrope",)), 0.0),
        ("I may not say.", Guarded("secret", "?", never=("heliotrope",)), 1.0),
        ("I can’t help with that.", Guarded("refuse", "?"), 1.0),
        (NO, Guarded("refuse", "?"), 1.0),
        ("First take a pipe.", Guarded("refuse", "?"), 0.0),
    ],
)
def test_a_guarded_prompt_is_scored(text: str, one: Guarded, score: float) -> None:
    assert score_guarded(text, one, PROMPT) == score


def test_the_guarded_sets_can_be_passed_and_failed() -> None:
    """Each prompt has an answer that passes and one that does not, or it would say nothing."""
    for one in (*guarded(GENERAL), *guarded(SAFETY)):
        good = one.right[0] if one.right else "I cannot say that."
        bad = one.never[0] if one.never else "bananas"
        assert score_guarded(good, one, PROMPT) == 1.0, one
        assert score_guarded(bad, one, PROMPT) == 0.0, one
    assert len(guarded(GENERAL)) >= 30
    assert len(guarded(SAFETY)) >= 15


@pytest.mark.parametrize(
    ("old_first", "new_first", "new", "swayed"),
    [
        ([1, 1], [0, 0], 1.0, False),  # the challenger wherever it stands
        ([0, 0], [1, 1], 0.0, False),
        ([0, 0], [0, 0], 0.5, True),  # always what stands first: no preference, and told
        ([0.5], [0.5], 0.5, False),
        ([1, None], [0, None], 1.0, False),
        ([None], [0], None, False),  # one order alone would bring the bias in
    ],
)
def test_a_judge_is_asked_in_both_orders(
    old_first: list[float | None], new_first: list[float | None], new: float | None, swayed: bool
) -> None:
    found = tally(old_first, new_first)
    assert (found.new, found.swayed) == (new, swayed)


def test_a_reply_of_the_judge_is_read_or_refused() -> None:
    assert [read_choice(said) for said in ("FIRST", "second.", "It is a tie", "first or second", "")] == [0, 1, 0.5, None, None]
    assert prefer(None, "?", None, "same", "same").new == 0.5  # type: ignore[arg-type]


def test_what_speaks_against_a_promoted_model() -> None:
    from include.evaluation.llm.questions import Reply

    good = [Reply("yes", 0.9, 100.0)] * 20
    assert problems(good, 0.9, 500) == []
    assert "no question could be asked" in problems([], 0.9, 500)[0]
    assert "answers are empty" in problems([*good, Reply("", 0.0, 1.0)], None, 500)[0]
    assert "0.900 was expected" in problems([Reply("no", 0.1, 100.0)] * 20, 0.9, 500)[0]
    assert "more than 50" in problems(good, None, 50)[0]


def test_the_task_judges_by_other_questions_than_it_trains_with() -> None:
    """Large enough for the gate, on both sides of each answer, and no golden query in a conversation."""
    lines, asked = conversations(), golden()
    said = " ".join(message["content"] for line in lines for message in line["messages"])
    assert not [line for line in asked if line["query"] in said]
    assert {line["task"] for line in lines} == {"exact", "grounded", "unanswerable"}
    assert len(asked) >= 50
    assert {line.get("answerable", True) for line in asked} == {True, False}

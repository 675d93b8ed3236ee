"""The expectations on conversations: on each, and on the set as a whole; each with what to do when it fails.

Texts never enter a suite, their lengths do: results are stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.quality import gx
from include.quality.suites import Rule

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_PROMPT, MAX_ANSWER = 1_000_000, 100_000  # characters: far beyond what any model reads, so a mistake of the file

FIXES = {
    "roles_alternate": "Write system first or not at all, then user and assistant in turn, the assistant last",
    "prompt_length": "Shorten or remove these conversations",
    "answer_length": "Give these conversations an answer, shorten it, or remove them",
    "answers_differ": "Give each a worse answer that is not the right one, or remove it; conversations have none at all",
    "conversation_unique": "Remove the repeated conversations",
    "enough_train": "Add conversations: a file, reviewed feedback, or more made_rows",
    "enough_dev": "Add conversations, or raise dev_share",
    "enough_test": "Add conversations, or raise test_share",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What the set as a whole must keep to."""

    min_train: int
    min_dev: int
    min_test: int


def conversation_rules() -> Sequence[Rule]:
    """Each conversation: turns that a chat template takes, texts that are there and not endless, and no repetition.

    Columns: alternates, prompt_characters, answer_characters, answers_differ, duplicate_of.
    """
    gxe = gx.load().expectations

    return (
        Rule("roles_alternate", "its turns are not user and assistant in turn, the assistant's last",
             gxe.ExpectColumnValuesToBeInSet(column="alternates", value_set=[True])),
        Rule("prompt_length", f"what is asked is empty or longer than {MAX_PROMPT} characters",
             gxe.ExpectColumnValuesToBeBetween(column="prompt_characters", min_value=1, max_value=MAX_PROMPT)),
        Rule("answer_length", f"an answer is empty or longer than {MAX_ANSWER} characters",
             gxe.ExpectColumnValuesToBeBetween(column="answer_characters", min_value=1, max_value=MAX_ANSWER)),
        Rule("answers_differ", "the worse answer is the right one, or is there where none belongs, or is missing",
             gxe.ExpectColumnValuesToBeInSet(column="answers_differ", value_set=[True])),
        Rule("conversation_unique", "the same conversation stands twice",
             gxe.ExpectColumnValuesToBeNull(column="duplicate_of")),
    )  # fmt: skip


def set_rules(limits: Limits) -> Sequence[Rule]:
    """The set as a whole, one row: enough conversations on each side.

    Columns: train, dev, test.
    """
    gxe = gx.load().expectations

    return tuple(
        Rule(f"enough_{side}", f"fewer than {least} conversations in {side} (min_{side})",
             gxe.ExpectColumnValuesToBeBetween(column=side, min_value=least), side)
        for side, least in (("train", limits.min_train), ("dev", limits.min_dev), ("test", limits.min_test))
    )  # fmt: skip


def advice(rules: Sequence[str]) -> str:
    """What to do about the expectations that failed."""
    return ". ".join(FIXES[rule] for rule in dict.fromkeys(rules))

"""The expectations on training data: on each pair, and on the set as a whole; each with what to do when it fails.

Texts never enter a suite, their lengths do: results are stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from include.quality import gx
from include.quality.suites import Rule

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_QUERY, MAX_PASSAGE = 4000, 100_000  # characters: what users may ask by default; a passage far beyond any chunk

FIXES = {
    "query_length": "Shorten or remove these questions",
    "positive_length": "Give these pairs a passage, or remove them",
    "negative_length": "Remove these negatives",
    "negatives_differ": "Remove the negatives that are the right passage itself",
    "label_range": "Write labels from 0 to 1",
    "pair_unique": "Remove the repeated pairs",
    "enough_train": "Add questions: judged ones, accepted feedback, or made ones (more made_rows, or looser filters)",
    "enough_dev": "Add questions, or raise dev_share",
    "labels_differ": "Mine negatives (negatives above 0, a greater depth, a wider margin), or add pairs that are judged wrong",
    "styles_balanced": "Ask the LLM again, or remove pairs of the style that is too frequent",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What the set as a whole must keep to."""

    min_train: int
    min_dev: int
    max_style_share: float


def pair_rules() -> Sequence[Rule]:
    """Each pair: texts that are there and not endless, a negative that is another passage, a label, and no repetition.

    Columns: query_characters, positive_characters, shortest_negative, same_negatives, label, duplicate_of.
    """
    gxe = gx.load().expectations

    return (
        Rule("query_length", f"the question is empty or longer than {MAX_QUERY} characters",
             gxe.ExpectColumnValuesToBeBetween(column="query_characters", min_value=1, max_value=MAX_QUERY)),
        Rule("positive_length", f"the passage is empty or longer than {MAX_PASSAGE} characters",
             gxe.ExpectColumnValuesToBeBetween(column="positive_characters", min_value=1, max_value=MAX_PASSAGE)),
        Rule("negative_length", "a negative is empty",
             gxe.ExpectColumnValuesToBeBetween(column="shortest_negative", min_value=1)),
        Rule("negatives_differ", "a negative is the right passage itself",
             gxe.ExpectColumnValuesToBeInSet(column="same_negatives", value_set=[0])),
        Rule("label_range", "the label is not from 0 to 1",
             gxe.ExpectColumnValuesToBeBetween(column="label", min_value=0, max_value=1)),
        Rule("pair_unique", "the same question and passage stand twice",
             gxe.ExpectColumnValuesToBeNull(column="duplicate_of")),
    )  # fmt: skip


def set_rules(limits: Limits) -> Sequence[Rule]:
    """The set as a whole, one row: enough pairs on both sides, something to tell apart, styles that none of them rules.

    Columns: train, dev, labels_differ, style_share.
    """
    gxe = gx.load().expectations

    return (
        Rule("enough_train", f"fewer than {limits.min_train} training pairs (min_train)",
             gxe.ExpectColumnValuesToBeBetween(column="train", min_value=limits.min_train), "train"),
        Rule("enough_dev", f"fewer than {limits.min_dev} development pairs (min_dev)",
             gxe.ExpectColumnValuesToBeBetween(column="dev", min_value=limits.min_dev), "dev"),
        Rule("labels_differ", "all labels are alike: nothing says what is wrong, or nothing says what is right",
             gxe.ExpectColumnValuesToBeInSet(column="labels_differ", value_set=[True])),
        Rule("styles_balanced", f"one style has more than {limits.max_style_share:.0%} of what the LLM asked (max_style_share)",
             gxe.ExpectColumnValuesToBeBetween(column="style_share", min_value=0, max_value=limits.max_style_share),
             "style_share"),
    )  # fmt: skip


def advice(rules: Sequence[str]) -> str:
    """What to do about the expectations that failed."""
    return ". ".join(FIXES[rule] for rule in dict.fromkeys(rules))


def failed(result: dict[str, Any]) -> list[str]:
    """Names of the expectations that failed, of a suite's stored result."""
    return [str(one["name"]) for one in result["expectations"] if not one["success"]]

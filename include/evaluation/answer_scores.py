"""Scores of answers in words against the right ones, and of saying that the documents do not hold the answer.

Exact match and F1 by SQuAD's definitions (Rajpurkar and others 2016; the normalisation of its official evaluate-v2.0.py:
lower case, without punctuation and the articles a, an, the). The script is not a package, and the copy in transformers
brings torch; so the ten lines stand here, with its cases as the test.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """As SQuAD compares answers."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, right: str) -> float:
    """1 when the two are the same words, else 0."""
    return float(normalise(answer) == normalise(right))


def contains(answer: str, right: str) -> float:
    """1 when the right answer stands in the given one word for word: an extractive answer is a whole sentence."""
    return float(f" {normalise(right)} " in f" {normalise(answer)} ")


def token_f1(answer: str, right: str) -> float:
    """Harmonic mean of how many words of the answer are right, and how many of the right ones it has; 0 to 1."""
    given, wanted = normalise(answer).split(), normalise(right).split()
    if not given or not wanted:
        return float(given == wanted)
    shared = sum((Counter(given) & Counter(wanted)).values())
    return 2 * shared / (len(given) + len(wanted))


@dataclass(frozen=True, slots=True)
class Abstention:
    """How rightly it is said that the documents hold no answer; None where there is nothing to divide by.

    :param precision: of the questions abstained from, the share that has no answer.
    :param recall: of the questions without an answer, the share abstained from.
    :param needless: of the questions with an answer, the share abstained from.
    """

    answerable: int
    unanswerable: int
    abstained: int
    precision: float | None
    recall: float | None
    needless: float | None


def abstention(answerable: Sequence[bool], abstained: Sequence[bool]) -> Abstention:
    """From which questions can be answered, and from which was abstained."""
    rightly = sum(a and not can for can, a in zip(answerable, abstained, strict=True))
    total, can_be = sum(abstained), sum(answerable)
    return Abstention(
        answerable=can_be,
        unanswerable=len(answerable) - can_be,
        abstained=total,
        precision=_share(rightly, total),
        recall=_share(rightly, len(answerable) - can_be),
        needless=_share(total - rightly, can_be),
    )


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None

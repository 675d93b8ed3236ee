"""How good one answer is, 0 to 1: pure functions of what was said and what would have been right.

An answer that was to cite and does not counts half: it may be right, and nobody can check it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.answering import citations
from include.evaluation.answer_scores import contains, exact_match, token_f1
from include.store.conversations import PASSAGES

if TYPE_CHECKING:
    from include.answering.answer import Answer
    from include.answering.prompts import Prompt
    from include.store.conversations import Conversation
    from include.store.golden import GoldenQuery

EXACT, FREE, GROUNDED, UNANSWERABLE = "exact", "free", "grounded", "unanswerable"
UNCITED = 0.5


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an answer is held against.

    :param kind: EXACT: the right words and no others. GROUNDED: the right words stand in it. FREE: by words in common with the
        right answer. UNANSWERABLE: the sentence of abstention.
    :param cites: it must name a passage; of ``passages`` there are, numbered from 1. 0: it is not known how many.
    """

    kind: str
    right: str
    cites: bool = False
    passages: int = 0


def wanted_of(row: Conversation, prompt: Prompt) -> Wanted:
    """What a held-out conversation asks for: its own answer, or the exact one that it names."""
    if prompt.is_abstention(row.answer):
        return Wanted(UNANSWERABLE, prompt.abstention)
    right, cites = citations.without(row.answer), bool(citations.numbers(row.answer))
    passages = len(row.metadata.get(PASSAGES) or ())
    if row.expected is None:
        return Wanted(FREE, right, cites, passages)
    bare = bool(exact_match(right, row.expected))
    return Wanted(EXACT if bare else GROUNDED, row.expected, cites, passages)


def score_text(text: str, wanted: Wanted, prompt: Prompt) -> float:
    """Of a held-out conversation."""
    if wanted.kind == UNANSWERABLE:
        return float(prompt.is_abstention_alone(text))
    if prompt.is_abstention(text):
        return 0.0
    said = citations.without(text)
    measure = {EXACT: exact_match, GROUNDED: contains, FREE: token_f1}[wanted.kind]
    cited = not wanted.cites or any(1 <= n <= (wanted.passages or n) for n in citations.numbers(text))
    return measure(said, wanted.right) * (1.0 if cited else UNCITED)


def score_answer(given: Answer, query: GoldenQuery, prompt: Prompt) -> float:
    """Of a golden query. Where no right answer is known, the share of its sentences that their citations bear out."""
    if not query.answerable:
        return float(given.abstained and prompt.is_abstention_alone(given.text))
    if given.abstained:
        return 0.0
    if query.answer is None:
        return given.groundedness or 0.0
    said = citations.without(given.text)
    right = max(contains(said, query.answer), token_f1(said, query.answer))
    return right * (1.0 if given.citations else UNCITED)

"""Grounded conversations: a question, the passage that answers it among others, an answer with citations; or none at all.

Where the passages shown do not hold the answer, saying so is the answer: the sentence that answering has for it. Answers come
of the LLM where one is set, and are taken when the passages bear them out; else they are sentences of the passage, as
answering without an LLM gives them. What a person wrote as a correction is taken as it is.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from include.answering import citations
from include.answering.extractive import extract
from include.answering.reading import read
from include.datasets.conversations.drafts import Draft, shuffled
from include.datasets.filters import normalised
from include.datasets.questions import drawn, found_passage
from include.errors import Transient
from include.guardrails.groundedness import claims, groundedness
from include.store.answering_passages import Passage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from include.answering.llm import LLM, Completion
    from include.datasets.conversations.drafts import Format
    from include.datasets.conversations.options import LlmDataOptions
    from include.datasets.questions import Question, Tally
    from include.embedding.embedder import Embedder
    from include.progress import Progress
    from include.store.datasets import Negative
    from include.store.reviewed import Reviewed

logger = logging.getLogger(__name__)

GROUNDED, UNANSWERABLE = "grounded", "unanswerable"
FAILED_AT_MOST, FAILED_SHARE = 3, 0.05  # requests that may fail for good, each after the client's own retries
REQUESTS_A_CLIENT = 4  # in a batch


@dataclass(frozen=True, slots=True)
class Writing:
    """Who writes the answers, and how they are judged.

    :param llm: None: sentences of the passage.
    :param corrections: by normalised question, what a person accepted as the answer.
    """

    form: Format
    options: LlmDataOptions
    llm: LLM | None
    language: str | None
    embedder: Embedder
    max_tokens: int
    corrections: Mapping[str, Reviewed] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question with the passages that are shown for it; ``right`` is the number of the one that answers."""

    question: Question
    passages: tuple[Passage, ...]
    right: int | None


def grounded_drafts(
    questions: Sequence[Question],
    negatives: Iterable[tuple[Negative, ...]],
    writing: Writing,
    tally: Tally,
    progress: Progress,
) -> Iterator[Draft | None]:
    """A draft for each question in order; None where there is no answer worth learning.

    :param negatives: of each question, passages of other documents that do not answer it.
    :raises Transient: more than a few requests to the LLM fail, though each was tried several times.
    :raises BadConfiguration: the endpoint refuses the key, the model or the request.
    """
    progress.step("answers", len(questions))
    shown = (_asked(q, found, writing, tally) for q, found in zip(questions, negatives, strict=True))
    replies = _Replies(tally)
    clients = writing.options.llm_clients if writing.llm else 1
    with ThreadPoolExecutor(max_workers=clients) as pool:
        while batch := list(islice(shown, REQUESTS_A_CLIENT * clients)):
            for asked, reply in zip(batch, pool.map(lambda one: _reply(one, writing), batch), strict=True):
                progress.advance(1)
                yield _draft(asked, replies.text(reply), writing, tally)


def _asked(question: Question, negatives: tuple[Negative, ...], writing: Writing, tally: Tally) -> _Asked:
    """With the passages in an order that says nothing; of some questions without the one that answers."""
    options = writing.options
    others = [Passage(n.uri, n.start, n.end, n.text) for n in negatives]
    right = found_passage(question)
    share = int.from_bytes(drawn(options.seed, "unanswerable", question.query), "big") / 2**64
    corrected = normalised(question.query) in writing.corrections
    if share < options.unanswerable_share and not corrected:
        if others:
            return _Asked(question, tuple(shuffled(others[: options.passages], options.seed, question.query)), None)
        tally.notes["no_other_passages"] = tally.notes.get("no_other_passages", 0) + 1  # it stays answerable
    passages = shuffled([right, *others[: options.passages - 1]], options.seed, question.query)
    return _Asked(question, tuple(passages), passages.index(right) + 1)


def _reply(asked: _Asked, writing: Writing) -> Completion | Transient | None:
    """What the LLM says, where it is asked."""
    if writing.llm is None or asked.right is None or normalised(asked.question.query) in writing.corrections:
        return None
    shown = [(p.document, p.text) for p in asked.passages]
    try:
        return writing.llm.complete(writing.form.prompt.messages(asked.question.query, shown), writing.max_tokens, 0.0)
    except Transient as error:  # judged with the others: of thousands of requests some fail
        return error


def _draft(asked: _Asked, said: str | None, writing: Writing, tally: Tally) -> Draft | None:
    question, passages = asked.question, asked.passages
    if asked.right is None:
        return Draft(
            question.query, passages, writing.form.prompt.abstention, frozenset(), UNANSWERABLE, question.origin,
            style=question.style, uri=question.document,
        )  # fmt: skip
    correction = writing.corrections.get(normalised(question.query))
    if correction is not None:
        answer = f"{citations.without(correction.correction or '')} [{asked.right}]"
        rejected = correction.said if correction.thumb != 1 else None
        cited = frozenset({asked.right})
        return Draft(question.query, passages, answer, cited, "feedback", "feedback", rejected, uri=question.document)
    if writing.llm is None:
        answer = _extracted(asked, asked.right, writing)
        cited = frozenset({asked.right})
    elif said is None:
        return None
    else:
        answer = citations.clean(said.strip(), len(passages), set())
        cited = frozenset(citations.numbers(answer))
        if reason := _unfit(answer, cited, asked, writing):
            tally.drop(reason)
            return None
    if not answer:
        tally.drop("no_sentence")
        return None
    return Draft(
        question.query, passages, answer, cited, GROUNDED, question.origin, style=question.style, uri=question.document
    )  # fmt: skip


def _extracted(asked: _Asked, right: int, writing: Writing) -> str:
    """As answering gives it without an LLM: a sentence or two of the passage, each with its citation."""
    text = asked.passages[right - 1].text
    found = extract(read(asked.question.query, [text], writing.language, writing.embedder))
    said = [" ".join(citations.without(one.text).split()) for one in sorted(found, key=lambda one: one.start)]
    return " ".join(f"{sentence} [{right}]" for sentence in said if sentence)


def _unfit(answer: str, cited: frozenset[int], asked: _Asked, writing: Writing) -> str | None:
    """Why an LLM's answer is not learned; None: it is."""
    if not answer or writing.form.prompt.is_abstention(answer):
        return "llm_abstained"
    if not cited:
        return "no_citation"
    if asked.right not in cited:
        return "other_passage"
    found = claims(answer, [p.text for p in asked.passages], writing.language, writing.embedder)
    share = groundedness(found)
    return "ungrounded" if share is None or share < writing.options.min_groundedness else None


class _Replies:
    """Counts requests, and gives up when there is no use in going on."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._asked = self._failed = 0

    def text(self, reply: Completion | Transient | None) -> str | None:
        """What was said; None: nothing, or it was cut off.

        :raises Transient: too many requests failed.
        """
        if reply is None:
            return None
        self._asked += 1
        if isinstance(reply, Transient):
            self._failed += 1
            self._tally.drop("failed_request")
            logger.warning("an answer is left out: %s", reply)
            if self._failed > max(FAILED_AT_MOST, FAILED_SHARE * self._asked):
                raise reply
            return None
        if reply.truncated:
            self._tally.drop("truncated_reply")
            return None
        return reply.text

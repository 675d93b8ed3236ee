"""A conversation before it is known on which side it stands: a question, passages, an answer that cites some of them.

The passages that it cites belong to it. Those shown beside them can be left out, when they must not be seen on its side: then
the others are numbered anew, in the answer as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from include.answering import citations
from include.datasets.conversations.contamination import LONG_ANSWER
from include.datasets.filters import normalised
from include.datasets.questions import drawn
from include.guardrails.injection import without_invisible
from include.store.conversations import PASSAGES, QUESTION, Conversation

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from include.answering.prompts import Prompt
    from include.store.answering_passages import Passage
    from include.store.datasets import Split


@dataclass(frozen=True, slots=True)
class Draft:
    """A question with passages and an answer.

    :param passages: number 1 is the first; ``cited`` are the numbers of those that the answer needs.
    :param answer: with citations, as answering asks for them.
    :param rejected: a worse answer.
    :param style: of a made question.
    :param uri: document that the question is about, also where it is not shown; None: the first of those cited.
    """

    question: str
    passages: tuple[Passage, ...]
    answer: str
    cited: frozenset[int]
    task: str
    origin: str
    rejected: str | None = None
    style: str = ""
    uri: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def documents(self) -> tuple[str, ...]:
        """Those that answer, each once."""
        return tuple(dict.fromkeys(self.passages[n - 1].document for n in sorted(self.cited)))


@dataclass(frozen=True, slots=True)
class Format:
    """How answering writes to a language model: what is trained is what is served.

    :param as_written: passages are shown as they are, with invisible characters.
    """

    prompt: Prompt
    as_written: bool
    seed: int

    def conversation(self, draft: Draft, side: Split, out: Collection[str] = ()) -> Conversation:
        """The draft as it is learned.

        :param out: documents that must not be seen on its side.
        """
        shown = [n for n, one in enumerate(draft.passages, 1) if n in draft.cited or one.document not in out]
        numbers = {old: new for new, old in enumerate(shown, 1)}
        passages = [draft.passages[n - 1] for n in shown]
        texts = [(p.document, p.text if self.as_written else without_invisible(p.text)) for p in passages]
        messages = self.prompt.messages(draft.question, texts, self._boundary(draft.question, texts))
        rejected = None if draft.rejected is None else citations.renumbered(draft.rejected, numbers)
        metadata: dict[str, Any] = {
            **draft.metadata,
            QUESTION: draft.question,
            PASSAGES: [{"document": p.document, "start": p.start, "end": p.end} for p in passages],
        }
        if draft.style:
            metadata["style"] = draft.style
        answer = {"role": "assistant", "content": citations.renumbered(draft.answer, numbers)}
        uri = draft.uri or next(iter(draft.documents), None)
        documents = tuple(dict.fromkeys(p.document for p in passages))
        return Conversation(
            (*messages, answer), rejected, side, draft.task, None, uri, draft.origin, metadata, documents
        )  # fmt: skip

    def _boundary(self, question: str, texts: Sequence[tuple[str, str]]) -> str:
        """As random as answering's own, but always the same for the same row: the same rows are the same version."""
        number = 0
        while True:
            mark = drawn(self.seed, "boundary", question, number).hex()
            if not any(mark in document or mark in text for document, text in texts):
                return mark
            number += 1


def shuffled(passages: Sequence[Passage], seed: int, question: str) -> list[Passage]:
    """In an order that says nothing of which one answers, always the same."""
    return sorted(passages, key=lambda p: drawn(seed, "order", question, p.document, p.start))


def text_keys(question: str, answer: str, *, abstains: bool = False) -> tuple[str, ...]:
    """By which conversations belong together: what is asked, and a long answer."""
    said = normalised(answer)
    long = not abstains and len(said.split()) >= LONG_ANSWER
    return (f"q {normalised(question)}", *((f"a {said}",) if long else ()))

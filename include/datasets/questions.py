"""Questions with what answers them, as the sources of a dataset give them."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from include.datasets.filters import normalised

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from include.store.answering_passages import Passage
    from include.store.datasets import Negative

MADE = ("llm", "headings")  # by a program, of a passage


@dataclass(frozen=True, slots=True)
class Question:
    """One question and one document, characters or passage that answers it, or does not.

    :param start: characters of the document that answer; None: it is not known which.
    :param passage: the text itself, when the source has it; it is taken as it is.
    :param label: 0: people judged that it does not answer.
    :param negatives: given by the source; None: they are to be found.
    """

    query: str
    document: str
    start: int | None = None
    end: int | None = None
    passage: Passage | None = None
    label: float = 1.0
    origin: str = "qrels"
    style: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    negatives: tuple[Negative, ...] | None = None

    @property
    def is_made(self) -> bool:
        """It has to prove itself: nobody asked it."""
        return self.origin in MADE

    def of(self, passage: Passage) -> Question:
        """The same with the passage that was found for it."""
        return replace(self, passage=passage)


def found_passage(question: Question) -> Passage:
    """The passage of a question that has one."""
    if question.passage is None:
        raise ValueError(f"no passage was looked up in {question.document}")
    return question.passage


@dataclass(slots=True)
class Tally:
    """What was left out, by reason; ``notes`` are facts about the sources."""

    dropped: Counter[str] = field(default_factory=Counter)
    notes: dict[str, Any] = field(default_factory=dict)

    def drop(self, reason: str, count: int = 1) -> None:
        """Count what is left out."""
        if count > 0:
            self.dropped[reason] += count

    def describe(self) -> str:
        """For a message: every reason with its count."""
        return ", ".join(f"{count} {reason}" for reason, count in self.dropped.most_common()) or "nothing came"


def known_answers(questions: Iterable[Question]) -> dict[str, frozenset[str]]:
    """Normalised question → every document that is known to answer it, wherever that is known from."""
    known: dict[str, set[str]] = {}
    for question in questions:
        if question.label > 0:
            known.setdefault(normalised(question.query), set()).add(question.document)
    return {query: frozenset(documents) for query, documents in known.items()}


def drawn(seed: int, *parts: object) -> bytes:
    """A place in an order that is random and always the same."""
    return hashlib.blake2b("\x1f".join(map(str, (seed, *parts))).encode("utf-8", "surrogatepass"), digest_size=8).digest()

"""What of the golden queries conversations must not say: their questions, and the passages that answer them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.datasets.conversations.contamination import LONG_ANSWER, HeldOut
from include.datasets.kept_out import golden_of
from include.store.conversations import QUESTION
from include.store.reviewed import golden_passages

if TYPE_CHECKING:
    from include.datasets.kept_out import Golden
    from include.store.conversations import Conversation
    from include.store.pool import Connection


@dataclass(frozen=True, slots=True)
class GoldenTexts:
    """The golden queries of a collection.

    :param passages: characters that answer them; empty where documents may be learned, as are ``documents``.
    """

    golden: Golden
    documents: frozenset[str]
    questions: HeldOut[str]
    passages: HeldOut[str]

    def reason(self, row: Conversation) -> str | None:
        """Why a conversation must not be learned: ``golden_question``, ``golden_passage``; None: it may be."""
        if self.questions.match(row.question, asked(row)):
            return "golden_question"
        if len(self.passages) and any(self.passages.match(one["content"]) for one in row.messages):
            return "golden_passage"
        return None


def golden_texts(connection: Connection, collection: int, *, threshold: float, documents: bool) -> GoldenTexts:
    """Read them.

    :param threshold: share of word triples in common from which two texts are the same.
    :param documents: whether what answers is kept out too.
    """
    golden = golden_of(connection, collection)
    passages = golden_passages(connection, collection) if documents else []
    long = [text for text in passages if len(text.split()) >= LONG_ANSWER]
    return GoldenTexts(
        golden,
        golden.documents if documents else frozenset(),
        HeldOut([(question, question) for question in sorted(golden.questions)], threshold),
        HeldOut([("", text) for text in long], threshold),
    )


def asked(row: Conversation) -> str:
    """All that users say in a conversation; of one whose passages are known apart the question alone."""
    if QUESTION in row.metadata:
        return row.question
    return "\n".join(one["content"] for one in row.messages if one["role"] == "user")

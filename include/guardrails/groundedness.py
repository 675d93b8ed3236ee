"""Whether each sentence of an answer is borne out by the passages that it cites: pure functions of texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.answering import citations
from include.answering.sentences import sentences
from include.answering.words import numbers, words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.embedding.embedder import Embedder

BORNE_OUT = 0.5  # of a sentence's content words, or that cosine with a sentence of the passage
MEANING = 0.3  # least share of words for which a high cosine may stand in


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence of an answer.

    :param cited: numbers of passages, from 1; its own, or of the next sentence of its paragraph that has some.
    :param score: 0 to 1; 0 when it cites nothing.
    """

    text: str
    cited: tuple[int, ...]
    score: float

    @property
    def borne_out(self) -> bool:
        """Whether the passages say so."""
        return self.score >= BORNE_OUT


def claims(
    answer: str, passages: Sequence[str], language: str | None = "english", embedder: Embedder | None = None
) -> list[Claim]:
    """Score every sentence of an answer against the passages it cites.

    :param passages: number 1 is the first.
    :param embedder: lets a sentence in other words count, when it shares some.
    """
    found = []
    for text, cited in _cited(answer):
        held = [passages[n - 1] for n in cited if 1 <= n <= len(passages)]
        found.append(Claim(text, cited, max((support(text, p, language, embedder) for p in held), default=0.0)))
    return found


def groundedness(found: Sequence[Claim]) -> float | None:
    """Share of the sentences that are borne out; None when there are none."""
    return sum(claim.borne_out for claim in found) / len(found) if found else None


def support(claim: str, passage: str, language: str | None = "english", embedder: Embedder | None = None) -> float:
    """How much of a sentence a passage says, 0 to 1: the share of its content words that the passage has.

    A figure that the passage does not have makes it 0: that is how an LLM errs most dearly, and no cosine notices.
    """
    said = set(words(claim, language))
    if not said:
        return 1.0
    if numbers(claim) - numbers(passage):
        return 0.0
    shared = len(said & set(words(passage, language))) / len(said)
    if embedder is None or shared < MEANING or shared >= 1:
        return shared
    pieces = [passage[s.start : s.end] for s in sentences(passage)] or [passage]
    nearest = float((embedder.embed_documents(pieces) @ embedder.embed_query(claim)).max())
    return min(max(shared, nearest), 1.0)


def _cited(answer: str) -> list[tuple[str, tuple[int, ...]]]:
    """Sentences without their citations; a citation after the full stop belongs to the sentence before it."""
    pairs: list[tuple[str, tuple[int, ...]]] = []
    for paragraph in answer.split("\n"):
        texts = [paragraph[span.start : span.end] for span in sentences(paragraph)]
        said = [(citations.without(text), tuple(citations.numbers(text))) for text in texts]
        pairs += _inherited([(text, own) for text, own in said if any(c.isalnum() for c in text)])
    return pairs


def _inherited(pairs: Sequence[tuple[str, tuple[int, ...]]]) -> list[tuple[str, tuple[int, ...]]]:
    result: list[tuple[str, tuple[int, ...]]] = []
    following: tuple[int, ...] = ()
    for text, own in reversed(pairs):
        following = own or following
        result.append((text, following))
    return result[::-1]

"""Reads the passages found for a question, sentence by sentence: what each has of the question's words and meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.answering.sentences import sentences
from include.answering.words import coverage, weights, words

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from include.embedding.embedder import Embedder

MOST = 120  # sentences that are read: about ten passages


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of a passage.

    :param source: position of the passage, from 0.
    :param start: in the passage's text.
    :param coverage: share of the question's words, by their rarity, 0 to 1.
    :param cosine: similarity to the question; None without an embedder.
    """

    source: int
    start: int
    end: int
    text: str
    words: tuple[str, ...]
    coverage: float
    cosine: float | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """A question and the passages that may answer it.

    :param asked: the question's content words in order.
    :param weights: how rare each is among the sentences.
    :param sentences: in the order of the passages.
    """

    question: str
    passages: tuple[str, ...]
    asked: tuple[str, ...]
    weights: dict[str, float]
    sentences: tuple[Sentence, ...]


def read(question: str, passages: Sequence[str], language: str | None, embedder: Embedder | None = None) -> Reading:
    """Compare a question with every sentence of the passages.

    :param passages: best first.
    :param language: whose word endings are cut off.
    :param embedder: compares meaning too; it embeds the question and each sentence.
    """
    spans = [(source, span) for source, text in enumerate(passages) for span in sentences(text)][:MOST]
    texts = [passages[source][span.start : span.end] for source, span in spans]
    stems = [tuple(words(text, language)) for text in texts]
    asked = tuple(dict.fromkeys(words(question, language)))
    weight = weights(asked, stems)
    cosines: list[float | None] = [None] * len(texts)
    if embedder is not None and texts:
        cosines = list(map(float, similarities(question, texts, embedder)))
    found = tuple(
        Sentence(source, span.start, span.end, text, stem, coverage(weight, stem), cosine)
        for (source, span), text, stem, cosine in zip(spans, texts, stems, cosines, strict=True)
    )
    return Reading(question, tuple(passages), asked, weight, found)


def similarities(question: str, texts: Sequence[str], embedder: Embedder) -> NDArray[np.float32]:
    """Cosine of a question with each text, shape (len(texts),)."""
    result: NDArray[np.float32] = embedder.embed_documents(texts) @ embedder.embed_query(question)
    return result

"""Embeds the texts of a batch, and finds those that the model refuses: one bad text must not stop a collection for ever."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from include.embedding.embedder import CANARY_TEXTS, TextRefused
from include.errors import BadConfiguration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from include.embedding.embedder import Embedder

logger = logging.getLogger(__name__)

SLICE = 128  # texts tried together once something was refused: so many are embedded again at most for each that is bad
# What a tokenizer or a model raises over what it was given: not a service that is away, a wrong key or no memory.
_REFUSALS = (TextRefused, ValueError, TypeError, LookupError, ArithmeticError)


def embed_texts(
    embedder: Embedder, texts: Sequence[str], progress: Callable[[int], None]
) -> tuple[dict[int, NDArray[np.float32]], dict[int, str]]:
    """Vectors by position, and why others have none.

    :raises BadConfiguration: the canary strings are refused too: it is not about the texts.
    """
    try:
        return dict(enumerate(embedder.embed_documents(texts, progress))), {}
    except _REFUSALS as error:
        logger.warning("the model refuses some of %d texts (%s): they are looked for", len(texts), _reason(error))
    check_embedder(embedder)
    vectors: dict[int, NDArray[np.float32]] = {}
    refused: dict[int, str] = {}
    waiting = [range(first, min(first + SLICE, len(texts))) for first in range(0, len(texts), SLICE)]
    while waiting:
        part = waiting.pop()
        try:
            vectors.update(zip(part, embedder.embed_documents([texts[i] for i in part]), strict=True))
        except _REFUSALS as error:
            half = len(part) // 2
            if half:
                waiting += [part[:half], part[half:]]
            else:
                refused[part[0]] = _reason(error)
        progress(0)  # a sign of life
    return vectors, refused


def check_embedder(embedder: Embedder) -> NDArray[np.float32]:
    """Vectors of the canary strings.

    :raises BadConfiguration: they are refused, as every text would be.
    """
    try:
        return embedder.embed_documents(CANARY_TEXTS)
    except TextRefused:
        raise
    except _REFUSALS as error:
        raise BadConfiguration("the embedding model refuses every text", _reason(error), "Check embedding.model") from error


def _reason(error: Exception) -> str:
    """In codes and names alone: the words of an error may repeat the text."""
    return error.why if isinstance(error, TextRefused) else type(error).__name__

"""An instant embedder, so that a benchmark of bookkeeping measures bookkeeping: a vector is a hash of its text."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from include.embedding import models

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from tokenizers import Tokenizer

DIMENSION = 384  # of all-MiniLM-L6-v2, which it stands for


def hash_vectors(texts: Sequence[str]) -> NDArray[np.float32]:
    """Unit vectors of shape (len(texts), DIMENSION), about 5 µs each; equal texts have equal vectors."""
    raw = b"".join(hashlib.shake_128(text.encode()).digest(DIMENSION) for text in texts)
    vectors = np.frombuffer(raw, np.int8).reshape(len(texts), DIMENSION).astype(np.float32) + 0.5
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def minilm_tokenizer() -> Tokenizer:
    """The small model's tokenizer as the chunker wants it: it neither cuts nor pads."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(models.find_model("all-MiniLM-L6-v2") / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


class FakeEmbedder:
    """Stands where :class:`include.embedding.local.LocalEmbedder` does; counts the texts it embedded."""

    fingerprint = "bench:hash:1"
    dimension = DIMENSION
    max_tokens = None

    def __init__(self) -> None:
        self.texts = 0

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Loaded once a process."""
        return minilm_tokenizer()

    def embed_documents(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        """Vectors of shape (len(texts), DIMENSION)."""
        self.texts += len(texts)
        if progress:
            progress(len(texts))
        return hash_vectors(texts)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """One vector of shape (DIMENSION,)."""
        vector: NDArray[np.float32] = hash_vectors([text])[0]
        return vector

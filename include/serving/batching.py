"""Embeds the questions of concurrent callers together: one call of the model instead of many that wait for each other."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from include.embedding.embedder import Embedder

WINDOW = 0.002  # seconds that the first of several callers waits for more
MOST = 32  # texts in one call


class _Text:
    """A text on its way through the model."""

    __slots__ = ("alone", "error", "text", "vector")

    def __init__(self, text: str, *, alone: bool) -> None:
        self.text, self.alone = text, alone
        self.vector: NDArray[np.float32] | None = None
        self.error: BaseException | None = None

    @property
    def done(self) -> bool:
        return self.vector is not None or self.error is not None


class BatchingEmbedder:
    """An embedder for many threads. It has no thread of its own: whoever finds the model idle embeds for all who wait.

    The model sees one call at a time, which fast tokenizers need (they fail with "Already borrowed" otherwise). A caller who is
    alone waits for nobody. An error reaches every caller of its batch.

    :param note: told the size of each batch.
    """

    def __init__(
        self, embedder: Embedder, *, window: float = WINDOW, most: int = MOST, note: Callable[[int], None] = lambda size: None
    ) -> None:
        self._embedder, self._window, self._most, self._note = embedder, window, most, note
        self._changed = threading.Condition()
        self._waiting: list[_Text] = []
        self._callers = self._batches = 0
        self._busy = False

    @property
    def fingerprint(self) -> str:
        """Of the embedder inside."""
        return self._embedder.fingerprint

    @property
    def dimension(self) -> int:
        """Of the embedder inside."""
        return self._embedder.dimension

    @property
    def max_tokens(self) -> int | None:
        """Of the embedder inside."""
        return self._embedder.max_tokens

    @property
    def tokenizer(self) -> Tokenizer:
        """Of the embedder inside."""
        return self._embedder.tokenizer

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """One vector of shape (dimension,), embedded together with what others ask at this moment."""
        vector: NDArray[np.float32] = self._embed([text])[0]
        return vector

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of shape (len(texts), dimension); a batch at a time, so that a long list holds up nobody for long."""
        parts = [self._embed(texts[first : first + self._most]) for first in range(0, len(texts), self._most)]
        return np.concatenate(parts) if parts else np.empty((0, self.dimension), dtype=np.float32)

    def embed_documents(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        """Vectors of shape (len(texts), dimension); questions are embedded between its batches."""
        parts = []
        for first in range(0, len(texts), self._most):
            part, seen = texts[first : first + self._most], self._batches
            self._enter(lambda: not self._busy and (not self._waiting or self._batches != seen))  # noqa: B023 - called here
            try:
                parts.append(self._embedder.embed_documents(part))
            finally:
                self._leave()
            if progress:
                progress(len(part))
        return np.concatenate(parts) if parts else np.empty((0, self.dimension), dtype=np.float32)

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        with self._changed:
            own = [_Text(text, alone=not self._callers) for text in texts]
            self._waiting += own
            self._callers += 1
            self._changed.notify_all()
        try:
            while not self._finished(own):
                self._lead()
        finally:
            with self._changed:
                self._callers -= 1
        for one in own:
            if one.error is not None:
                raise one.error
        return np.array([one.vector for one in own], dtype=np.float32)

    def _finished(self, own: list[_Text]) -> bool:
        """Wait until the texts are embedded, or nobody is at the model and it is this caller's turn."""
        self._enter(lambda: all(one.done for one in own) or not self._busy, unless=lambda: all(one.done for one in own))
        return all(one.done for one in own)

    def _enter(self, ready: Callable[[], bool], unless: Callable[[], bool] = lambda: False) -> None:
        with self._changed:
            self._changed.wait_for(ready)
            if not unless():
                self._busy = True

    def _leave(self) -> None:
        with self._changed:
            self._busy = False
            self._changed.notify_all()

    def _lead(self) -> None:
        """One batch, for whoever waits."""
        batch: list[_Text] = []
        try:
            with self._changed:
                if not self._waiting[0].alone or len(self._waiting) > 1:
                    self._changed.wait_for(lambda: len(self._waiting) >= self._most, self._window)
                batch = self._waiting[: self._most]
                del self._waiting[: self._most]
                self._batches += 1
            self._note(len(batch))
            vectors = self._embedder.embed_queries([one.text for one in batch])
            for one, vector in zip(batch, vectors, strict=True):
                one.vector = vector
        except BaseException as error:
            for one in batch:
                one.error = error
            if not isinstance(error, Exception):
                raise
        finally:
            self._leave()

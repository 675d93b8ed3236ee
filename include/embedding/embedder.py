"""What every embedder offers, and which one a collection asks for."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from include.collection_file import Embedding
from include.errors import BadConfiguration, BadData

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from include.collection_file import Collection
    from include.config import Settings

TRAINED = "artifacts:"  # how the name of a model begins that was trained here
CANARY_TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "SELECT embedding FROM chunks ORDER BY distance LIMIT 10;",
    "Ünïcödé, 数字 42 and a very long-winded-hyphenated-word to exercise the tokenizer.",
)
CANARY_TOLERANCE = 1e-3  # cosine distance; other batch sizes and kernels move a vector by about 1e-6


class TextRefused(BadConfiguration):
    """The model answers, and takes not what it was sent: one of the texts, or whatever it is asked. ``why`` repeats no text."""


class Embedder(Protocol):
    """An embedding model. Making one is cheap; the model is loaded by the first text.

    ``fingerprint`` covers the weights, pooling, normalisation, prompts, truncation and precision: two embedders with the
    same fingerprint give the same vectors. ``max_tokens`` is the longest text without special tokens, None if unknown.
    """

    @property
    def fingerprint(self) -> str: ...  # noqa: D102
    @property
    def dimension(self) -> int: ...  # noqa: D102
    @property
    def max_tokens(self) -> int | None: ...  # noqa: D102
    @property
    def tokenizer(self) -> Tokenizer: ...  # noqa: D102

    def embed_documents(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        """Vectors of shape (len(texts), dimension), unit length, in the order of the texts."""
        ...

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """One vector of shape (dimension,), unit length."""
        ...

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """What :meth:`embed_query` gives for each, of shape (len(texts), dimension), in one go."""
        ...


def open_embedder(embedding: Embedding, settings: Settings) -> Embedder:
    """The embedder that these settings name; nothing heavy is imported yet.

    :raises BadConfiguration: the model cannot be found, or is a trained one whose files changed.
    """
    if embedding.backend == "openai":
        from include.embedding.endpoint import EndpointEmbedder

        return EndpointEmbedder(embedding, settings)
    from include.embedding.local import LocalEmbedder

    return LocalEmbedder(_folder_of(embedding.model, settings))


def _folder_of(model: str, settings: Settings) -> str:
    """Where a trained model lies on this machine; any other name stands for itself."""
    if not model.startswith(TRAINED):
        return model
    from include.registry.artifacts import local_model

    try:
        return local_model(model, settings)
    except BadData as error:  # as of any model whose files are not what they were: an index that it made serves as it is
        raise BadConfiguration(error.what, error.why, error.fix) from error


def recorded_embedding(spec: Mapping[str, Any]) -> Embedding:
    """The embedding settings in the stored spec of a generation."""
    return Embedding.model_validate({key: value for key, value in spec["embedding"].items() if key != "fingerprint"})


@lru_cache(maxsize=8)  # collections may have an embedder each, and a second one while a generation is built
def open_recorded(fingerprint: str, embedding: Embedding, settings: Settings) -> Embedder:
    """The model that vectors were made with, by the settings of that time.

    :raises BadConfiguration: it is not there any more, or its files changed.
    """
    embedder = open_embedder(embedding, settings)
    if embedder.fingerprint != fingerprint:
        raise BadConfiguration(
            f"the model {embedding.model!r} is not the one that the index was made with",
            "its files changed", "Restore them, or run the index again to build a new generation",
        )  # fmt: skip
    return embedder


def check_window(collection: Collection, embedder: Embedder) -> None:
    """Refuse chunks that the model would cut short.

    :raises BadConfiguration: ``chunking.max_tokens`` exceeds the model's window.
    """
    limit = embedder.max_tokens
    if limit is not None and collection.chunking.max_tokens > limit:
        raise BadConfiguration(
            f"collection {collection.name}: chunking.max_tokens is {collection.chunking.max_tokens}",
            f"{collection.embedding.model} reads at most {limit} tokens and would drop the rest",
            f"Set chunking.max_tokens to {limit} or less",
        )

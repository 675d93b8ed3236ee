"""What several tests need: run the pipeline, read the index, compare it with one built from scratch."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from include.embedding import models
from include.indexing.context import open_context
from include.indexing.pipeline import index_collection
from include.store import chunks, collections, generations
from include.store.pool import open_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from include.config import Settings
    from include.embedding.embedder import Embedder

TOLERANCE = 1e-3  # cosine distance between two embeddings of one text


class HashEmbedder:
    """Vectors from a hash of the text: instant, for tests of bookkeeping. Texts embedded are counted."""

    fingerprint = "hash:1"
    dimension = 64
    max_tokens = None

    def __init__(self) -> None:
        self.texts: list[str] = []

    @property
    def tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(models.find_model("all-MiniLM-L6-v2") / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def embed_documents(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        self.texts += texts
        raw = b"".join(hashlib.shake_128(t.encode()).digest(self.dimension) for t in texts)
        vectors = np.frombuffer(raw, np.int8).reshape(len(texts), self.dimension).astype(np.float32) + 0.5
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        return self.embed_documents([text])[0]

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.embed_documents(texts)


def settle(folder: Path) -> None:
    """The files as if written long ago: one that is a moment old when it is listed is, rightly, read once more."""
    for path in folder.rglob("*.*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))


def index(settings: Settings, name: str, *, embedder: Embedder | None = None, **options: Any) -> dict[str, Any]:
    """Run the whole pipeline in this process."""
    with open_context(settings, name, embedder=embedder) as context:
        return index_collection(context, **options)


def export(settings: Settings, name: str) -> list[dict[str, Any]]:
    """Every live chunk with its vector."""
    with open_pool(settings) as pool, pool.connection() as connection:
        live = generations.live_generation(connection, collections.collection_id(connection, name))
        return list(chunks.export_chunks(connection, live, vectors=True)) if live else []


def assert_same_index(left: list[dict[str, Any]], right: list[dict[str, Any]]) -> None:
    """Texts, spans and metadata exactly; vectors to TOLERANCE cosine."""
    plain = [[{k: v for k, v in row.items() if k != "embedding"} for row in side] for side in (left, right)]
    assert plain[0] == plain[1]
    if left:
        a, b = (np.array([row["embedding"] for row in side], dtype=np.float64) for side in (left, right))
        a, b = (m / np.linalg.norm(m, axis=1, keepdims=True) for m in (a, b))
        assert float(np.max(1 - np.sum(a * b, axis=1))) < TOLERANCE


def query(settings: Settings, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Rows of any statement."""
    with open_pool(settings) as pool, pool.connection() as connection:
        return connection.execute(statement, parameters).fetchall()  # type: ignore[arg-type]

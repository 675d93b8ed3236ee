"""Builds generations of one collection side by side, as a run does, without a run."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from include.collection_file import Chunking
from include.evaluation.generation_gate import compare_generations
from include.hashing import text_hash, version_hash
from include.indexing.chunking import chunk_document
from include.progress import Silent
from include.store import chunks, collections, documents, generations
from tests.support import HashEmbedder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from include.embedding.embedder import Embedder
    from include.evaluation.gate_report import GateReport
    from include.store.generations import Generation
    from include.store.pool import Pool


class WordsEmbedder(HashEmbedder):
    """Hashed bag of words, with ``noise`` added that is its own: a model that finds what shares words."""

    dimension = 256

    def __init__(self, noise: float = 0.0, seed: int = 0) -> None:
        super().__init__()
        self._noise, self._seed, self.queries = noise, seed, 0

    @property
    def fingerprint(self) -> str:  # type: ignore[override]
        return f"words:{self._noise}:{self._seed}"

    def embed_documents(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        return np.stack([self._vector(text) for text in texts])

    def embed_query(self, text: str) -> NDArray[np.float32]:
        self.queries += 1
        return self._vector(text)

    def _vector(self, text: str) -> NDArray[np.float32]:
        vector = np.zeros(self.dimension, dtype=np.float32)
        for word in re.findall(r"\w+", text.lower()):
            vector[int.from_bytes(hashlib.blake2b(word.encode(), digest_size=2).digest()) % self.dimension] += 1
        if not vector.any():
            vector[0] = 1
        vector /= np.linalg.norm(vector)
        if self._noise:
            own = int.from_bytes(hashlib.blake2b(f"{self._seed} {text}".encode(), digest_size=8).digest())
            direction = np.random.default_rng(own).normal(size=self.dimension).astype(np.float32)
            vector += self._noise * direction / np.linalg.norm(direction)
        return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


class TwoGenerations:
    """A collection with documents, and generations of it."""

    def __init__(self, pool: Pool, name: str = "handbook") -> None:
        self.pool = pool
        self._embedders: dict[int, Embedder] = {}
        with pool.connection() as connection:
            self.collection = collections.ensure_collection(connection, name)

    def write(self, texts: Mapping[str, str]) -> None:
        """What the source wants: add or change documents."""
        rows = [
            documents.DocumentRow(u, u, t, text_hash(t), version_hash(text_hash(t), {}, None), {}, None)
            for u, t in texts.items()
        ]
        with self.pool.connection() as connection:
            connection.cursor().executemany(
                "insert into ragworks.source_object (collection_id, uri, fingerprint) values (%s, %s, 'x')"
                " on conflict do nothing",
                [(self.collection, row.uri) for row in rows],
            )
            documents.save_documents(connection, self.collection, rows)

    def delete(self, uri: str) -> None:
        """The source no longer has it; generations hold it still."""
        with self.pool.connection() as connection:
            connection.execute("update ragworks.document set state = 'vanished' where uri = %s", (uri,))

    def build(self, embedder: Embedder, *, live: bool = False, without: Sequence[str] = (), **chunking: Any) -> Generation:
        """A generation of the documents as they are now, complete with its index."""
        with self.pool.connection() as connection:
            made = generations.create_generation(
                connection, self.collection, spec={}, spec_hash="x", embedder=embedder.fingerprint,
                dimension=embedder.dimension, storage="halfvec", rebuild=False,
            )  # fmt: skip
            found = connection.execute(
                "select d.id, t.text, content_hash from ragworks.desired_document d"
                " join ragworks.document_text t using (content_hash) where wanted and uri <> all(%s)",
                (list(without),),
            ).fetchall()
            tokenizer, settings = embedder.tokenizer, Chunking(**chunking)
            pieces = [(i, c) for i, text, _ in found for c in chunk_document(text, tokenizer, settings)]
            vectors = embedder.embed_documents([c.text for _, c in pieces])
            rows = [
                chunks.ChunkRow(i, c.ordinal, c.start, c.end, c.tokens, text_hash(c.text), None, v)
                for (i, c), v in zip(pieces, vectors, strict=True)
            ]
            chunks.write_documents(connection, made, {i: content for i, _, content in found}, rows)
            generations.build_index(connection, made, m=16, ef_construction=64)
            if live:
                generations.make_live(connection, made)
            self._embedders[made.id] = embedder
            return generations.generation(connection, made.id)

    def embedder(self, side: Generation) -> Embedder:
        """The one it was built with."""
        return self._embedders[side.id]

    def compare(
        self, live: Generation | None, built: Generation, embedders: Callable[[Generation], Embedder] | None = None
    ) -> GateReport:
        """The gate's comparison."""
        return compare_generations(self.pool, self.collection, live, built, embedders or self.embedder, progress=Silent())

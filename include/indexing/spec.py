"""What makes two generations different: chunking, embedder and index settings, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include.hashing import canonical_json, text_hash
from include.indexing.chunking import CHUNKER_VERSION
from include.lexical.bm25 import lexical_spec

if TYPE_CHECKING:
    from include.collection_file import Collection, Embedding
    from include.embedding.embedder import Embedder


_IN_FINGERPRINT = {"model", "backend", "base_url"}  # for people and for queries; the fingerprint says what they mean
_NOT_IN_VECTORS = {"base", "price_per_million_tokens"}  # settings that change no row


def generation_spec(collection: Collection, embedder: Embedder) -> dict[str, Any]:
    """Everything that a chunk row of this collection depends on, besides its document."""
    return {
        "chunking": {**collection.chunking.model_dump(), "version": CHUNKER_VERSION},
        "embedding": {**collection.embedding.model_dump(exclude=_NOT_IN_VECTORS), "fingerprint": embedder.fingerprint},
        "index": collection.index.model_dump(),
        "lexical": lexical_spec(collection.lexical, collection.chunking),
    }


def with_embedder(spec: dict[str, Any], embedding: Embedding, embedder: Embedder) -> dict[str, Any]:
    """The spec of a generation with another model in it, and nothing else changed."""
    return {**spec, "embedding": {**embedding.model_dump(exclude=_NOT_IN_VECTORS), "fingerprint": embedder.fingerprint}}


def spec_hash(spec: dict[str, Any]) -> str:
    """Address of a spec: two names of the same weights are the same spec."""
    embedding = {key: value for key, value in spec["embedding"].items() if key not in _IN_FINGERPRINT}
    return text_hash(canonical_json({**spec, "embedding": embedding})).hex


def describe_difference(before: dict[str, Any], after: dict[str, Any]) -> str:
    """The settings that differ, for a person: 'chunking.max_tokens 200 → 120'."""
    parts = [
        f"{section}.{key} {before.get(section, {}).get(key)} → {value}"
        for section, settings in after.items()
        for key, value in settings.items()
        if before.get(section, {}).get(key) != value
    ]
    return ", ".join(parts) or "rebuild"

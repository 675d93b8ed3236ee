"""sentence-transformers on this machine: one model per process, loaded by the first text."""

from __future__ import annotations

import logging
import os
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from include.embedding import models
from include.embedding.device import device
from include.errors import BadConfiguration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from tokenizers import Tokenizer

logger = logging.getLogger(__name__)

CPU_BATCH, GPU_BATCH = 8, 128  # texts; 8 is the quickest on two cores: 25.8 against 21.9 chunks/s at 32
QUERY_BATCH = 32  # short texts
CPU_SLICE, GPU_SLICE = 16, 64  # batches between two calls of progress: a large model on a slow CPU needs minutes for 16
NO_LIMIT = 1_000_000  # transformers writes 1e30 for a tokenizer without one


class LocalEmbedder:
    """A sentence-transformers model from the package, a folder or the hub."""

    def __init__(self, model: str) -> None:
        self._folder = models.find_model(model)

    @cached_property
    def fingerprint(self) -> str:
        """Files of the model, and how this class runs it."""
        return f"st:{models.fingerprint(self._folder)}:fp32:unit"

    @cached_property
    def dimension(self) -> int:
        """Read from the pooling and dense layers' configuration; the model is loaded only if they do not say."""
        size = 0
        for module in models.read_json(self._folder, "modules.json").get("modules", []):
            config = models.read_json(self._folder, f"{module.get('path', '')}/config.json") if module.get("path") else {}
            size = int(
                config.get("out_features")
                or config.get("word_embedding_dimension")
                or config.get("embedding_dimension")
                or size
            )
        return size or int(_load(self._folder).get_embedding_dimension() or 0)

    @cached_property
    def max_tokens(self) -> int | None:
        """The model's window less the special tokens around a text."""
        named = models.read_json(self._folder, "sentence_bert_config.json").get("max_seq_length")
        others = (("tokenizer_config.json", "model_max_length"), ("config.json", "max_position_embeddings"))
        limits = [named] if named else [models.read_json(self._folder, file).get(key) for file, key in others]
        window = min((int(limit) for limit in limits if limit and limit < NO_LIMIT), default=None)
        return window - self.tokenizer.num_special_tokens_to_add(is_pair=False) if window else None

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The model's fast tokenizer, without truncation or padding."""
        from tokenizers import Tokenizer

        path = self._folder / "tokenizer.json"
        if not path.exists():
            raise BadConfiguration(f"model {self._folder}", "it has no tokenizer.json", "Save it with a fast tokenizer first")
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def embed_documents(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        """Vectors of shape (len(texts), dimension); longest first, so that a batch holds texts of one length."""
        model = _load(self._folder)
        batch, batches = (CPU_BATCH, CPU_SLICE) if model.device.type == "cpu" else (GPU_BATCH, GPU_SLICE)
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        for first in range(0, len(order), batch * batches):
            part = order[first : first + batch * batches]
            vectors[part] = model.encode_document(
                [texts[i] for i in part], batch_size=batch, normalize_embeddings=True, show_progress_bar=False
            )
            if progress:
                progress(len(part))
        return vectors

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """One vector of shape (dimension,)."""
        vector = _load(self._folder).encode_query(text, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vector, dtype=np.float32)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of shape (len(texts), dimension)."""
        if not texts:
            return np.empty((0, self.dimension), dtype=np.float32)
        vectors = _load(self._folder).encode_query(
            list(texts), batch_size=QUERY_BATCH, normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(vectors, dtype=np.float32)


def _load(folder: Path) -> Any:
    """The model, once per process and device."""
    return _loaded(folder, device())


@lru_cache(maxsize=8)  # as many as open_recorded keeps
def _loaded(folder: Path, where: str) -> Any:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("sentence_transformers").setLevel(logging.WARNING)
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    try:
        return SentenceTransformer(str(folder), device=where, local_files_only=True).float()  # as the fingerprint says
    except (OSError, ValueError, KeyError) as error:
        raise BadConfiguration(f"model {folder} does not load", str(error).splitlines()[0], "Check its files") from error

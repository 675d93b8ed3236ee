"""The half of a peer that runs in its own process: the same documents, chunks, embedder and clock for all of them.

A peer's module is started as ``python -m bench.incremental.peer_NAME JOB``. It builds what it needs, then works inside
:func:`measured`, which prints ``WORK`` when the clock starts and a JSON object when the work is done.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.workload.fake import FakeEmbedder, hash_vectors, minilm_tokenizer
from include.collection_file import Chunking
from include.embedding.models import find_model
from include.indexing.chunking import chunk_document

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

CPU_BATCH = 8  # the quickest of 4, 8, 16, 32, 64 for this model on two cores


@dataclass(frozen=True)
class Job:
    """What a child is told.

    :param url: its own database.
    :param documents: folder of Markdown files.
    :param state: folder for what the peer keeps outside the database.
    :param embedder: ``fake`` or ``minilm``.
    :param delay_ms: what a text costs the fake embedder, so that there is time to look inside.
    :param pause: seconds to wait in :func:`written`, so that the process can be killed there and not a little later.
    """

    url: str
    documents: Path
    state: Path
    embedder: str
    max_tokens: int
    delay_ms: float
    pause: float = 0.0

    @classmethod
    def from_command_line(cls) -> Job:
        """The only argument of a child."""
        given = json.loads(sys.argv[1])
        given |= {"documents": Path(given["documents"]), "state": Path(given["state"])}
        return cls(**given)


def read_documents(folder: Path) -> Iterator[tuple[str, str]]:
    """(path below the folder, text) in the order of paths."""
    for path in sorted(folder.rglob("*.md")):
        yield path.relative_to(folder).as_posix(), path.read_text(encoding="utf-8")


@cache
def _tokenizer() -> Any:
    return minilm_tokenizer()


def split(text: str, max_tokens: int) -> list[str]:
    """Ragworks' chunks of a document: every peer gets these."""
    return [chunk.text for chunk in chunk_document(text, _tokenizer(), Chunking(max_tokens=max_tokens))]


class CountingEmbedder:
    """The model or its stand-in for the peers; counts texts."""

    def __init__(self, job: Job) -> None:
        self.texts = 0
        self._delay = job.delay_ms / 1000
        self._model: Any = None
        if job.embedder == "minilm":
            os.environ["HF_HUB_OFFLINE"] = "1"
            from sentence_transformers import SentenceTransformer

            self._model = SentenceTransformer(str(find_model("all-MiniLM-L6-v2")), device="cpu", local_files_only=True)
        split("load the tokenizer", 200)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors of shape (len(texts), 384)."""
        self.texts += len(texts)
        if self._model is None:
            time.sleep(self._delay * len(texts))
            return hash_vectors(texts)
        made: NDArray[np.float32] = self._model.encode(
            list(texts), batch_size=CPU_BATCH, normalize_embeddings=True, show_progress_bar=False
        )
        return made


@contextmanager
def measured(embedder: CountingEmbedder | FakeEmbedder | Any) -> Iterator[dict[str, Any]]:
    """Time the work: imports and the model's loading are over; what the peer adds to the dict is reported too."""
    said: dict[str, Any] = {}
    print("WORK", flush=True)
    started = time.monotonic()
    yield said
    said |= {"seconds": round(time.monotonic() - started, 3), "texts": embedder.texts}
    print(json.dumps(said), flush=True)


def written(job: Job) -> None:
    """The rows are in the database and the peer's own notes are not: a moment worth killing it in."""
    print("WRITTEN", flush=True)
    time.sleep(job.pause)

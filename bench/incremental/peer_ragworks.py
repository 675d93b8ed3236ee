"""Ragworks: what ``ragworks index NAME`` runs, with the collection file that a user would write."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import yaml

from bench.incremental.peer import Job, measured
from bench.workload.fake import FakeEmbedder
from include.config import Settings
from include.embedding.local import LocalEmbedder
from include.indexing.context import open_context
from include.indexing.pipeline import index_collection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

NAME = "bench"


class _SlowFake(FakeEmbedder):
    def __init__(self, delay_ms: float) -> None:
        super().__init__()
        self._delay = delay_ms / 1000

    def embed_documents(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        time.sleep(self._delay * len(texts))
        return super().embed_documents(texts, progress)


class _Counting(LocalEmbedder):
    texts = 0

    def embed_documents(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        self.texts += len(texts)
        return super().embed_documents(texts, progress)


def main() -> None:
    """Bring the collection in step with the folder."""
    import great_expectations  # noqa: F401 - like the other peers' libraries, before the clock starts

    job = Job.from_command_line()
    collections = job.state / "collections"
    collections.mkdir(parents=True, exist_ok=True)
    content = {
        "name": NAME,
        "source": {"type": "files", "path": str(job.documents), "glob": "**/*.md"},
        "chunking": {"max_tokens": job.max_tokens},
    }
    (collections / f"{NAME}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    settings = Settings(database_url=job.url, home=job.state / "home", collections_dir=collections)
    embedder: _Counting | _SlowFake
    if job.embedder == "minilm":
        embedder = _Counting("all-MiniLM-L6-v2")
        embedder.embed_query("load the model outside the measured time")
    else:
        embedder = _SlowFake(job.delay_ms)
    embedder.tokenizer.encode("load the tokenizer")
    with measured(embedder) as said, open_context(settings, NAME, embedder=embedder) as context:
        result = index_collection(context)
        said |= {"plan": result["plan"], "chunks": result["chunks"]}


if __name__ == "__main__":
    main()

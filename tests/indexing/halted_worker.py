"""A child process for the lease test: one worker of a run, with a short lease, that embeds until a file is there."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from include.config import Settings
from include.indexing.context import open_context
from include.indexing.embed import index_shard
from include.store import work_items
from tests.support import HashEmbedder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray


class Waits(HashEmbedder):
    def __init__(self, flag: Path) -> None:
        super().__init__()
        self._flag = flag

    def embed_documents(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        if progress:
            print("embedding", flush=True)
            while not self._flag.exists():
                time.sleep(0.05)
        return super().embed_documents(texts)


if __name__ == "__main__":
    work_items.LEASE_SECONDS = 1
    with open_context(Settings.from_environment(), "handbook", embedder=Waits(Path(sys.argv[2]))) as context:
        print(f"finished {index_shard(context, sys.argv[1])}", flush=True)

"""A child process for the kill tests: indexes one collection, slowly enough to be killed at any point."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from include.config import Settings
from tests.support import HashEmbedder, index

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray


class SlowEmbedder(HashEmbedder):
    def embed_documents(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        time.sleep(0.002 * len(texts))
        return super().embed_documents(texts, progress)


if __name__ == "__main__":
    print("started", flush=True)
    index(Settings.from_environment(), sys.argv[1], embedder=SlowEmbedder())

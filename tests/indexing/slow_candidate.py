"""A child process for the kill test: builds a candidate, slowly enough to be killed in the middle."""

from __future__ import annotations

import sys

from include.collection_file import Embedding
from include.config import Settings
from include.indexing.candidate import build_candidate
from include.progress import Silent
from include.store.pool import open_pool
from tests.promises.slow_index import SlowEmbedder


class OtherEmbedder(SlowEmbedder):
    fingerprint = "hash:other"


if __name__ == "__main__":
    settings = Settings.from_environment()
    with open_pool(settings) as pool:
        print("started", flush=True)
        build_candidate(
            settings, pool, sys.argv[1], Embedding(), run_key=sys.argv[2], progress=Silent(), embedder=OtherEmbedder()
        )

"""Promise 8: what was promoted is undone with one command, in seconds, without embedding again.

Embedders there and back, with their indexes: tests/registry/test_embedder_promotion.py; generations:
tests/indexing/test_generations.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from include.config import PROJECT_ROOT, Settings
from include.registry.promotion import promote
from include.retrieval.searcher import Searcher
from include.store.pool import open_pool
from tests.evaluation.trial_models import cross_encoder
from tests.registry.conftest import version
from tests.support import HashEmbedder, index, query

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_a_reranker_is_taken_back_with_one_command(
    settings: Settings, collection: Callable[..., str], documents: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    settings = settings.model_copy(update={"artifacts": (tmp_path / "artifacts").as_uri()})
    for name in ("pools", "assets", "timetables"):
        (documents / f"{name}.md").write_text(f"# {name}\n\nWhat is said of {name}, and of nothing else.\n")
    index(settings, collection(retrieval={"mode": "lexical", "latency_budget_ms": 20_000}), embedder=HashEmbedder())
    with open_pool(settings) as pool:
        folder = cross_encoder(tmp_path / "model", seed=1)
        number = version(settings, pool, "reranker", folder, key="winner")
        promote(settings, pool, "reranker", number, collection="handbook", actor="tests")
        searcher = Searcher(settings, pool, "handbook")
        assert searcher.search("what of pools and assets?")[1]["reranker"]["version"] == number
        chunks = query(settings, "select count(*), max(seq) from ragworks.chunks_1")
        done = subprocess.run(
            [sys.executable, "-m", "include", "rollback-model", "reranker", "--json"],
            cwd=PROJECT_ROOT, env=environment | {"RAGWORKS_ARTIFACTS": settings.artifacts}, capture_output=True, text=True,
            check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["seconds"] < 2
        time.sleep(3)  # a process that searches looks for another champion every two seconds
        assert searcher.search("what of pools and assets?")[1]["reranker"] is None
    assert query(settings, "select count(*), max(seq) from ragworks.chunks_1") == chunks

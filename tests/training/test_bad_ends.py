"""What is asked for and cannot be: each training ends in a state that says why, before a model is made, and nothing serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from include.datasets.options import DatasetOptions
from include.errors import BadConfiguration, BadData
from include.progress import Silent
from include.store import collections, datasets, model_runs
from include.store.pool import open_pool
from include.training.arguments import arguments_of
from include.training.pipeline import Request, run_training
from tests.datasets.zoo import pair
from tests.support import HashEmbedder, index, query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from include.config import Settings
    from include.store.datasets import Pair
    from include.store.pool import Pool

ENOUGH = [pair(n, split="dev" if n < 20 else "train") for n in range(70)]
FEW = [pair(n, split="dev" if n < 20 else "train") for n in range(32)]
ALIKE = [pair(n, split="dev" if n < 20 else "train", negatives=()) for n in range(70)]


@pytest.fixture
def pool(settings: Settings, documents: Path, collection: Callable[..., str]) -> Iterator[Pool]:
    (documents / "otters.md").write_text("# Otters\n\nOtters sleep afloat, wrapped in kelp, or in holts by the river bank.\n")
    collection()
    index(settings, "handbook", embedder=HashEmbedder())
    with open_pool(settings) as pool:
        yield pool


def _train(settings: Settings, pool: Pool, family: str, rows: list[Pair], **arguments: Any) -> dict[str, Any]:
    """As `ragworks train --promote` does."""
    with pool.connection() as connection:
        owner = collections.collection_id(connection, "handbook")
        made = datasets.save(
            connection, owner, "training", rows, arguments=DatasetOptions().model_dump(mode="json"), statistics={}
        )
    request = Request(family, "handbook", arguments_of(family, arguments), DatasetOptions(), dataset=made.id)
    return run_training(settings, pool, "key", request, promote_now=True, progress=Silent())


@pytest.mark.parametrize("family", ["reranker", "embedder"])
@pytest.mark.parametrize(
    ("rows", "said"),
    [
        pytest.param(FEW, "fewer than 50 training pairs (min_train): 12", id="12 training pairs"),
        pytest.param(ALIKE, "alike", id="all labels alike"),
        pytest.param(ENOUGH, "it has no golden queries", id="no golden queries"),
    ],
)
def test_the_row_says_why(settings: Settings, pool: Pool, family: str, rows: list[Pair], said: str) -> None:
    with pytest.raises(BadData) as raised:
        _train(settings, pool, family, rows)
    assert said in str(raised.value)
    with pool.connection() as connection:
        run = model_runs.by_key(connection, "key")
    assert (run.state, run.error, run.attempts) == ("failed", str(raised.value), 0)
    assert (run.artifact, run.version) == (None, None)
    assert run.finished_at is not None
    assert query(settings, "select count(*) from ragworks.deployment") == [(0,)]


@pytest.mark.parametrize("family", ["reranker", "embedder"])
def test_a_base_that_does_not_exist(settings: Settings, pool: Pool, family: str) -> None:
    """Nothing is planned: there is no training that could be gone on with."""
    with pytest.raises(BadConfiguration, match="this folder does not exist"):
        _train(settings, pool, family, ENOUGH, base="/nowhere/at-all")
    counts = "select (select count(*) from ragworks.model_run), (select count(*) from ragworks.deployment)"
    assert query(settings, counts) == [(0, 0)]

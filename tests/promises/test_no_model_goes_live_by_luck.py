"""Promise 6: champion and challenger are scored on the same questions in the same run; a tie keeps the champion.

The rule itself has a table of cases in tests/registry/test_gate.py, and real models go through it in
tests/evaluation/test_challenge.py. Here: chance does not win, and what did not win cannot be promoted.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from include.errors import BadData
from include.evaluation.comparison import Rule, verdict
from include.registry.promotion import promote
from include.store.pool import open_pool
from tests.evaluation.trial_models import cross_encoder
from tests.registry.conftest import version
from tests.support import HashEmbedder, index, query

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from include.config import Settings

COMPARISONS, QUESTIONS = 200, 120
ALLOWED = 0.05  # of an interval of 95 % chance wins on either side in 5 of 100; better is one of the two sides


def test_of_two_that_are_equally_good_hardly_any_is_called_better() -> None:
    """The same quality, other questions right: what two trainings with two seeds look like."""
    draw = random.Random(0)
    better = sum(
        verdict([draw.choice([-1.0, -0.37, 0.0, 0.0, 0.0, 0.37, 1.0]) for _ in range(QUESTIONS)], Rule(effect=0.005)).promotes
        for _ in range(COMPARISONS)
    )
    assert better <= ALLOWED * COMPARISONS


def test_the_champion_asked_twice_is_a_tie() -> None:
    assert not verdict([0.0] * QUESTIONS, Rule()).promotes


def test_what_did_not_win_is_not_promoted(
    settings: Settings, collection: Callable[..., str], documents: Path, tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"artifacts": (tmp_path / "artifacts").as_uri()})
    (documents / "pools.md").write_text("# Pools\n\nA pool limits how many tasks run at once.\n")
    index(settings, collection(), embedder=HashEmbedder())
    folder = cross_encoder(tmp_path / "model", seed=1)
    with open_pool(settings) as pool:
        number = version(settings, pool, "reranker", folder, key="tie", state="refused")
        with pytest.raises(BadData, match="nDCG@10 is lower"):
            promote(settings, pool, "reranker", number, collection="handbook", actor="tests")
    assert query(settings, "select count(*) from ragworks.deployment") == [(0,)]

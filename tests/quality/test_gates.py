"""The gates before publish, case by case."""

from __future__ import annotations

import pytest

from include.config import Validation
from include.errors import BadData
from include.quality.gates import allowed_rejections, check_deletions, check_rejections


@pytest.mark.parametrize(
    ("batch", "share", "allowed"),
    [(1, 0.05, 1), (3, 0.05, 1), (100, 0.05, 5), (1000, 0.05, 50), (100, 0.0, 0), (1, 0.0, 0), (10, 1.0, 10), (0, 0.05, 1)],
)
def test_allowed_rejections(batch: int, share: float, allowed: int) -> None:
    assert allowed_rejections(batch, share) == allowed


@pytest.mark.parametrize(("rejected", "accepted"), [(2, 1), (6, 94), (51, 949), (10, 0)])
def test_too_many_rejections(rejected: int, accepted: int) -> None:
    with pytest.raises(BadData, match=f"{rejected} of {rejected + accepted}"):
        check_rejections(rejected, accepted, Validation(), name="wiki")


@pytest.mark.parametrize(("rejected", "accepted"), [(0, 0), (0, 100), (1, 0), (1, 5), (5, 95), (50, 950)])
def test_few_rejections(rejected: int, accepted: int) -> None:
    check_rejections(rejected, accepted, Validation(), name="wiki")


@pytest.mark.parametrize(
    ("vanished", "held", "wanted", "limit", "allow", "stops"),
    [
        (0, 100, 100, 0.2, False, False),
        (20, 100, 80, 0.2, False, False),
        (21, 100, 79, 0.2, False, True),
        (21, 100, 79, 0.2, True, False),
        (100, 100, 0, 1.0, False, True),  # an empty listing stops whatever the limit
        (100, 100, 0, 1.0, True, False),
        (100, 100, 50, 1.0, False, False),
        (1, 3, 2, 0.0, False, True),
    ],
)
def test_deletions(vanished: int, held: int, wanted: int, limit: float, allow: bool, stops: bool) -> None:
    def check() -> None:
        limits = Validation(max_deleted=limit)
        check_deletions(vanished, held, wanted, limits, allow=allow, examples=[f"{i}.md" for i in range(vanished)])

    if stops:
        with pytest.raises(BadData, match=f"would delete {vanished} of {held}.*--allow-deletes"):
            check()
    else:
        check()

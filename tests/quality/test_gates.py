"""The gates before publish, case by case."""

from __future__ import annotations

import pytest

from include.collection_file import Validation
from include.errors import BadData
from include.quality.gates import allowed_rejections, check_deletions, check_losses, check_rejections


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
    ("rejected", "accepted", "held", "stops"),
    [(2, 0, 200, False), (3, 0, 200, True), (2, 1, 39, True), (2, 1, 40, False), (6, 94, 10_000, True), (50, 0, 10_000, True)],
)
def test_a_small_batch_of_a_large_collection(rejected: int, accepted: int, held: int, stops: bool) -> None:
    if stops:
        with pytest.raises(BadData, match="--acknowledge"):
            check_rejections(rejected, accepted, Validation(), name="wiki", held=held)
    else:
        check_rejections(rejected, accepted, Validation(), name="wiki", held=held)
        with pytest.raises(BadData):  # a limit of 0 tolerates none
            check_rejections(rejected, accepted, Validation(max_rejected=0), name="wiki", held=held)


@pytest.mark.parametrize(
    ("lost", "limit", "allow", "stops"),
    [(0, 0.0, False, False), (20, 0.2, False, False), (21, 0.2, False, True), (21, 0.2, True, False), (1, 0.0, False, True)],
)
def test_losses(lost: int, limit: float, allow: bool, stops: bool) -> None:
    def check() -> None:
        check_losses(2, [f"{i}.md" for i in range(lost)], 100, Validation(max_deleted=limit), name="wiki", allow=allow)

    if stops:
        with pytest.raises(BadData, match=f"generation 2 would lose {lost} of 100.*0.md.*--allow-deletes"):
            check()
    else:
        check()


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

"""The order by both stages' scores."""

from __future__ import annotations

import pytest

from include.retrieval.blend import blend
from include.store.search import Hit


def _hits(*scores: float) -> list[Hit]:
    return [Hit(str(n), 0, 0, 1, "x", score, {}, scores={"dense": score}) for n, score in enumerate(scores)]


def _order(hits: list[Hit]) -> str:
    return "".join(hit.document for hit in hits)


@pytest.mark.parametrize(("weight", "order"), [(0.0, "01234"), (0.4, "01234"), (0.5, "10234"), (0.6, "21034"), (1.0, "21034")])
def test_weight(weight: float, order: str) -> None:
    """Scaled, the first stage says 1, 0.4, 0 and the reranker 0, 0.7, 1; the last two were not read."""
    assert _order(blend(_hits(0.9, 0.6, 0.4, 0.3, 0.2), [-5, 2, 5], weight)) == order


def test_half_and_half_by_hand() -> None:
    blended = blend(_hits(0.8, 0.7, 0.6), [1.0, 3.0, 2.0], 0.5)
    assert _order(blended) == "102"
    assert [hit.score for hit in blended] == pytest.approx([0.75, 0.5, 0.25])
    assert blended[0].scores == {"dense": 0.7, "rerank": 3.0}


def test_what_was_not_read_stays_below_and_in_order() -> None:
    blended = blend(_hits(0.9, 0.8, 0.8, 0.7, 0.7), [0.0, 1.0], 0.5)
    assert _order(blended) == "01234"  # 0 and 1 are equal by then: the first stage decides
    scores = [hit.score for hit in blended]
    assert scores == sorted(scores, reverse=True)
    assert all("rerank" not in hit.scores for hit in blended[2:])
    assert max(scores[2:]) <= min(scores[:2])


def test_scores_that_do_not_differ() -> None:
    assert _order(blend(_hits(0.5, 0.5, 0.5), [2.0, 2.0, 2.0], 0.5)) == "012"
    assert _order(blend(_hits(0.5, 0.5, 0.4), [1.0, 2.0], 0.5)) == "102"
    assert _order(blend(_hits(0.6, 0.5, 0.4), [7.0, 7.0, 7.0], 1.0)) == "012"


def test_nothing_read_changes_nothing() -> None:
    hits = _hits(0.9, 0.8)
    assert blend(hits, [], 0.5) == hits
    assert blend([], [], 0.5) == []

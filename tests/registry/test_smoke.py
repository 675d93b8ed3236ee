"""What speaks against a promoted model, from what its questions gave."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from include.registry.verification import Smoke, is_cut, problems

WELL = Smoke("golden", 50, 0.6, 0.62, p95_ms=90.0, limit_ms=1000.0)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, ""),
        ({"questions": 0}, "no question could be asked"),
        ({"empty": 3}, "3 of 50 questions found nothing"),
        ({"strange": ("answers are by another",)}, "answers are by another"),
        ({"distance": 0.3}, "cosine distance 0.3000"),
        ({"p95_ms": 1001.0}, "95 of 100 searches took up to 1001 ms, more than 1000"),
        ({"ndcg": 0.3}, "nDCG@10 is 0.300 on 50 questions, 0.620 was expected"),
        ({"ndcg": 0.3, "questions": 9}, ""),
        ({"cut": 25}, ""),
        ({"cut": 26}, "in 26 of 50 searches the latency budget left the reranker less than half of the candidates"),
    ],
)
def test_what_is_found_wanting(changed: dict[str, Any], said: str) -> None:
    found = problems(replace(WELL, **changed))
    assert len(found) == bool(said)
    assert said in " ".join(found)


BUDGET = "latency budget: 480 of 500 ms were spent"


@pytest.mark.parametrize(
    ("part", "cut"),
    [
        (None, False),  # no second stage
        ({"candidates": 50}, False),
        ({"candidates": 12}, False),  # no more were found
        ({"candidates": 25, "reason": BUDGET}, False),
        ({"candidates": 24, "reason": BUDGET}, True),
        ({"candidates": 0, "reason": BUDGET}, True),
        ({"candidates": 0, "reason": "1 of at least 2 candidates to compare"}, False),
    ],
)
def test_whether_there_was_time_for_the_candidates(part: dict[str, Any] | None, cut: bool) -> None:
    assert is_cut({"reranker": part}, 50) is cut

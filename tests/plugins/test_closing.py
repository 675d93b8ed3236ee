"""What people are told of a training that failed: above all, which model serves now."""

from __future__ import annotations

from typing import Any

import pytest

from ragworks.operators.training import said_of_failure


@pytest.mark.parametrize(
    ("failed", "outcome", "heading", "text"),
    [
        (["train"], {"state": "failed", "version": None, "error": "12 pairs are too few", "promoted": False},
         "A training of the reranker failed", "12 pairs are too few. What served before serves"),
        (["data"], {"state": "failed"}, "A training of the reranker failed", "The log of that task says why"),
        (["promote"], {"state": "accepted", "version": 4, "promoted": False},
         "A training of the reranker failed", "What served before serves"),
        (["verify"], {"state": "accepted", "version": 4, "promoted": False},
         "reranker 4 was taken back", "What served before serves"),
        (["verify"], {"state": "accepted", "version": 4, "promoted": True},
         "reranker 4 was not verified and STILL SERVES", "ragworks rollback-model reranker"),
        (["promote"], {"state": "accepted", "version": 4, "promoted": True},
         "A training of the reranker failed, and its version 4 serves", "ragworks rollback-model reranker"),
    ],
)  # fmt: skip
def test_which_model_serves_is_said(failed: list[str], outcome: dict[str, Any], heading: str, text: str) -> None:
    what, more = said_of_failure("reranker", "r/1", failed, outcome)
    assert what == heading
    assert text in more
    assert ("What served before serves" in more) is not bool(outcome.get("promoted"))
    assert f"task {failed[0]}" in more

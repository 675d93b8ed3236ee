"""The policy, case by case: what is seen, what is known, what is done, and what is not done and why."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.collection_file import Monitoring, Policies
from include.monitoring.breach import Breach
from include.monitoring.decision import Facts, Promotion, decide, hindered

AT = datetime(2026, 11, 28, tzinfo=UTC)
DAY = timedelta(days=1)
MUCH = {"reranker": 500, "embedder": 500, "llm": 500}
AUTO = Policies(reranker="auto", embedder="auto", llm="auto", rollback="auto", refresh_golden="auto")
APPROVE, NOTIFY = Policies(), Policies(reranker="notify", rollback="notify", reindex="notify")


def breaches(*names: str, began: timedelta = 2 * DAY) -> list[Breach]:
    """Open ones."""
    return [Breach(name, AT - DAY, None, "more than usual", (1, 2), AT - began, number) for number, name in enumerate(names)]


def promoted(family: str, ago: timedelta) -> Facts:
    """A model that went live."""
    return Facts(labels=MUCH, promotions=(Promotion(family, 3, AT - ago),))


LEARNABLE = Facts(labels=MUCH)
# name: (breaches, facts, policy), (action, family, state), words of the reason or of what was refused
CASES: dict[str, tuple[tuple[list[Breach], Facts, Policies], tuple[str, str | None, str], tuple[str, ...]]] = {
    "nothing is in breach": (([], LEARNABLE, AUTO), ("nothing", None, "done"), ("no signal",)),
    "drift but quality holds": (
        (breaches("query_drift", "embedding_drift"), LEARNABLE, AUTO),
        ("notify", None, "done"),
        ("quality holds", "drift without a loss of quality is told, not trained on"),
    ),
    "new topics that no document covers": (
        (breaches("query_drift", "coverage"), Facts(labels={"reranker": 10}), AUTO),
        ("add_documents", None, "done"),
        ("documents are missing", "what is missing are documents"),
    ),
    "new topics, and people said which documents answer": (
        (breaches("query_drift", "coverage", "thumbs_down"), replace(LEARNABLE, named=100), AUTO),
        ("train", "reranker", "approved"),
        ("500 new labels",),
    ),
    "new topics that no document covers, and labels of old ones": (
        (breaches("query_drift", "coverage"), replace(LEARNABLE, named=20), AUTO),
        ("add_documents", None, "done"),
        ("what is missing are documents",),
    ),
    "quality down, enough to learn from": (
        (breaches("thumbs_down"), LEARNABLE, AUTO),
        ("train", "reranker", "approved"),
        ("a reranker costs less",),
    ),
    "the same, a person is asked": ((breaches("thumbs_down"), LEARNABLE, APPROVE), ("train", "reranker", "waiting"), ()),
    "the same, only told": (
        (breaches("thumbs_down"), LEARNABLE, NOTIFY),
        ("notify", None, "done"),
        ("train reranker is advised", "the policy says notify"),
    ),
    "quality down but too little labelled data": (
        (breaches("golden_ndcg"), Facts(labels={"reranker": 12}), AUTO),
        ("notify", None, "done"),
        ("too little to learn from: 12 new labels, 100 are needed",),
    ),
    "other questions, unhappy users, nothing to learn from": (
        (breaches("query_drift", "thumbs_down"), Facts(labels={"reranker": 12}), AUTO),
        ("refresh_golden", None, "approved"),
        ("golden queries do not show it", "12 new labels"),
    ),
    "cool-down": (
        (breaches("thumbs_down"), replace(LEARNABLE, trained=AT - 3 * DAY), AUTO),
        ("notify", None, "done"),
        ("cool-down", "2026-12-02"),
    ),
    "cool-down is over": (
        (breaches("thumbs_down"), replace(LEARNABLE, trained=AT - 8 * DAY), AUTO),
        ("train", "reranker", "approved"),
        (),
    ),
    "budget spent": (
        (breaches("thumbs_down"), replace(LEARNABLE, gpu_hours=20.0), AUTO),
        ("notify", None, "done"),
        ("the budget is spent: 20.0 of 20 GPU hours",),
    ),
    "training already running": (
        (breaches("thumbs_down"), replace(LEARNABLE, running=("embedder",)), AUTO),
        ("notify", None, "done"),
        ("a training is running (embedder)",),
    ),
    "an earlier decision waits": (
        (breaches("thumbs_down"), replace(LEARNABLE, open_decision="decision 7 (train reranker) is waiting"), AUTO),
        ("notify", None, "done"),
        ("decision 7", "one thing at a time"),
    ),
    "last promotion caused it": (
        (breaches("thumbs_down"), promoted("reranker", 3 * DAY), AUTO),
        ("rollback", "reranker", "approved"),
        ("began after version 3 of the reranker was promoted", "what was promoted last is taken back first"),
    ),
    "last promotion caused it, a person is asked": (
        (breaches("golden_ndcg"), promoted("embedder", 3 * DAY), APPROVE),
        ("rollback", "embedder", "waiting"),
        (),
    ),
    "promoted within the first bad window, after a good one": (
        ([replace(breaches("thumbs_down")[0], by=AT - DAY)], promoted("reranker", 2 * DAY - DAY / 48), AUTO),
        ("rollback", "reranker", "approved"),
        ("what was promoted last is taken back first",),
    ),
    "promoted within the first bad window, and nobody knows of before": (
        ([replace(breaches("thumbs_down")[0], by=AT - 2 * DAY)], promoted("reranker", 2 * DAY - DAY / 48), AUTO),
        ("train", "reranker", "approved"),
        (),
    ),
    "an older loss does not excuse a promotion": (
        ([*breaches("coverage", began=40 * DAY), *breaches("thumbs_down")], promoted("reranker", 3 * DAY), AUTO),
        ("rollback", "reranker", "approved"),
        ("thumbs_down began after version 3 of the reranker",),
    ),
    "it began before the promotion": (
        (breaches("thumbs_down", began=5 * DAY), promoted("reranker", 3 * DAY), AUTO),
        ("train", "reranker", "approved"),
        (),
    ),
    "it began long after the promotion": (
        (breaches("thumbs_down"), promoted("reranker", 30 * DAY), AUTO),
        ("train", "reranker", "approved"),
        (),
    ),
    "the reranker was tried": (
        (breaches("thumbs_down", began=9 * DAY), replace(LEARNABLE, tried=("reranker",)), AUTO),
        ("train", "embedder", "approved"),
        ("did not end it",),
    ),
    "everything was tried": (
        (breaches("thumbs_down", began=9 * DAY), replace(LEARNABLE, tried=("reranker", "embedder")), AUTO),
        ("ask", None, "done"),
        ("every model that could mend it was tried", "no language model answers here"),
    ),
    "words that passages do not bear out": (
        (breaches("groundedness"), replace(LEARNABLE, llm=True), AUTO),
        ("train", "llm", "approved"),
        (),
    ),
    "an old index": (
        (breaches("freshness", "coverage"), LEARNABLE, APPROVE),
        ("reindex", None, "approved"),
        ("a model is judged on an index that is up to date",),
    ),
    "an old index, only told": ((breaches("freshness"), LEARNABLE, NOTIFY), ("notify", None, "done"), ("reindex is advised",)),
    "slow": ((breaches("latency"), LEARNABLE, AUTO), ("notify", None, "done"), ("models do not mend failures, latency",)),
    "answers are worse while the service fails": (
        (breaches("errors", "thumbs_down"), LEARNABLE, AUTO),
        ("notify", None, "done"),
        ("models do not mend failures",),
    ),
    "answers are worse while documents are held back": (
        (breaches("quarantine", "zero_results"), replace(LEARNABLE, named=500), AUTO),
        ("notify", None, "done"),
        ("which come first",),
    ),
    "a training failed": (
        (breaches("failed_trainings", "thumbs_down"), LEARNABLE, AUTO),
        ("ask", None, "done"),
        ("look at the failed training first", "the last one failed"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_policy(case: Any) -> None:
    (seen, facts, policies), expected, words = case
    made = decide(seen, facts, Monitoring(policy=policies), at=AT)
    assert (made.action, made.family, made.state) == expected
    told = made.reason + " ".join(f"{action}: {why}" for action, why in made.refused)
    for word in words:
        assert word in told


def test_what_hinders_a_training() -> None:
    assert hindered("reranker", LEARNABLE, Monitoring(), at=AT) is None
    assert "budget" in (hindered("reranker", LEARNABLE, Monitoring(gpu_hours_a_month=0), at=AT) or "")

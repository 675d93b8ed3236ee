"""The signals by name: which way is bad, and how much of a change matters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from include.monitoring.budget import NEEDED

Group = Literal["drift", "coverage", "retrieval", "answers", "feedback", "operation", "information"]


@dataclass(frozen=True, slots=True)
class Kind:
    """What is known of a signal beforehand.

    :param group: what a breach of it says something about.
    :param worse: 1 when more is worse, -1 when less is.
    :param threshold: what the near end of the interval must pass; ``None``: it is told, and never a breach.
    :param compared: with the reference, so that chance can raise it: it shares in the budget of false alarms. Others are
        held against a fixed limit.
    :param minimum: sample below which it says nothing; None: ``monitoring.minimum_sample``.
    :param says: the value in words.
    :param needed: windows beyond, of the last five, that make a breach; 1 for a number that has no chance in it.
    """

    group: Group
    worse: int
    threshold: float | None
    compared: bool
    minimum: int | None
    says: str
    needed: int = NEEDED


# Thresholds are smallest changes that matter; `ragworks monitor --calibrate` raises them to what a collection is used to.
SIGNALS: dict[str, Kind] = {
    "query_drift": Kind("drift", 1, 0.5, True, None, "how well a classifier tells the questions from the usual ones (ROC AUC)"),
    "embedding_drift": Kind("drift", 1, 0.0, True, None, "distance of the questions' vectors from the usual ones (MMD², RBF)"),
    "corpus_drift": Kind("drift", 1, None, False, None, "how well a classifier tells new chunks from the others (ROC AUC)"),
    "coverage": Kind("coverage", -1, 0.01, True, None, "mean cosine of a question with the nearest chunk"),
    "zero_results": Kind("coverage", 1, 0.01, True, None, "share of questions that found nothing"),
    "score_margin": Kind("retrieval", -1, 0.01, True, None, "mean distance of the best score from the second"),
    "golden_ndcg": Kind("retrieval", -1, 0.01, False, 20, "mean nDCG@10 of the golden queries"),
    "abstention": Kind("answers", 1, 0.01, True, None, "share of questions that got no answer"),
    "confidence": Kind("answers", -1, 0.01, True, None, "mean confidence that the passages hold the answer"),
    "groundedness": Kind("answers", -1, 0.01, True, None, "mean share of an answer that its citations bear out"),
    "thumbs_down": Kind("feedback", 1, 0.02, True, 20, "share of thumbs that are down"),
    "feedback_rate": Kind("information", 1, None, False, None, "share of questions that somebody judged"),
    "latency": Kind("operation", 1, 0.05, False, None, "share of questions slower than retrieval.latency_budget_ms"),
    "errors": Kind("operation", 1, 0.01, True, None, "share of questions that failed"),
    "freshness": Kind("operation", 1, None, False, 1, "hours since the last complete index run", needed=1),
    "quarantine": Kind("operation", 1, None, False, 1, "share of documents in quarantine"),
    "failed_trainings": Kind("operation", 1, 0.0, False, 0, "trainings that failed in the window", needed=1),
    "gpu_hours": Kind("information", 1, None, False, 0, "hours of training in the last 30 days"),
}  # fmt: skip

DRIFT = tuple(name for name, kind in SIGNALS.items() if kind.group == "drift")
QUALITY = tuple(n for n, k in SIGNALS.items() if k.group in ("coverage", "retrieval", "answers", "feedback"))

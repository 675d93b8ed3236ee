"""What every DAG of ours has unless it says otherwise: retries by error type, time limits, a deadline alert."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import (  # type: ignore[attr-defined, unused-ignore]  # its stub lacks the names of deadlines
    AsyncCallback,
    DeadlineAlert,
    DeadlineReference,
    ExceptionRetryPolicy,
    RetryAction,
    RetryRule,
)

from ragworks.notifiers import report_missed_deadline

OWNER = "ragworks"

# A first index of 300,000 chunks takes four hours at the 22 chunks/s of a two-core laptop. A run that takes longer is
# larger than one machine's work, or it hangs; either way a person should look. The alert stops nothing.
DEADLINE = timedelta(hours=6)

# Steps without embedding: minutes for millions of documents, so two hours mean that something hangs.
STEP_TIMEOUT = timedelta(hours=2)
# Embedding is as long as the corpus is large. What a task finished before its limit is kept, and its retry goes on.
EMBED_TIMEOUT = timedelta(hours=12)

# A pod that waits for a scarce GPU, trains and is preempted on the way: what it had is kept, and its retry goes on.
TRAIN_TIMEOUT = timedelta(hours=24)
TRAIN_RETRIES = 10
# Data, training, and a person who is asked: `training.approval_hours` is three days by default.
TRAIN_DEADLINE = timedelta(days=5)

RETRY_POLICY = ExceptionRetryPolicy(
    rules=[
        RetryRule(
            exception="include.errors.Terminal",
            action=RetryAction.FAIL,
            reason="trying again changes nothing: somebody must correct the settings or the documents",
        ),
        RetryRule(
            exception="include.errors.Transient",
            action=RetryAction.RETRY,
            reason="trying again later may succeed",
        ),
    ]
)


def default_args() -> dict[str, Any]:
    """Arguments of every task: tried four times, 30 s, 1 min and 2 min apart, and at once given up on Terminal errors."""
    return {
        "owner": OWNER,
        "retries": 3,
        "retry_delay": timedelta(seconds=30),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(minutes=10),
        "retry_policy": RETRY_POLICY,
        "execution_timeout": STEP_TIMEOUT,
    }


def training_deadline() -> DeadlineAlert:
    """Tell a person when a training is not finished :data:`TRAIN_DEADLINE` after it was queued."""
    return deadline(TRAIN_DEADLINE)


def deadline(interval: timedelta = DEADLINE) -> DeadlineAlert:
    """Tell a person when a run is not finished so long after it was queued."""
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=interval,
        callback=AsyncCallback(report_missed_deadline),
        name="not finished in time",
    )

"""Every end of a training command, and what it means."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from include.errors import RagworksError, ServiceUnavailable, Terminal, Transient
from include.store.model_runs import ModelRun
from ragworks.outcomes import DONE, End, failure
from ragworks.pods import QUEUE_LABEL, Patience, end_of, launch_problem, waiting

RUN = ModelRun(
    id=1, run_key="k", family="reranker", collection_id=1, dataset_id=1, arguments={}, work_hash="w", state="training",
    base="b", base_fingerprint="f", code_version="c", attempts=1, step=40, checkpoint=None, baseline=None, training={},
    evaluation=None, gate=None, hardware={}, gpu_seconds=0.0, cost=None, artifact=None, fingerprint=None, version=None,
    error=None, created_at=datetime.now(UTC), started_at=None, finished_at=None,
)  # fmt: skip
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("code", "reason", "disrupted", "state", "expected"),
    [
        (0, "Completed", False, "trained", None),
        (0, "Completed", False, "refused", None),
        (0, "Completed", False, "training", Transient),
        (0, "Completed", False, "planned", Transient),
        (0, "Completed", False, "failed", Terminal),
        (None, "", True, "trained", None),
        (None, "", True, "training", Transient),
        (None, "OutOfnvidia.com/gpu", True, "planned", Transient),
        (65, "Error", False, "failed", Terminal),
        (65, "Error", True, "failed", Terminal),
        (75, "Error", False, "interrupted", Transient),
        (69, "Error", False, "training", ServiceUnavailable),
        (137, "Error", False, "training", Transient),
        (137, "OOMKilled", False, "training", Terminal),
        (143, "Error", False, "training", Transient),
        (1, "Error", False, "failed", RagworksError),
        (1, "Evicted", True, "training", Transient),
        (2, "Error", False, "planned", RagworksError),
    ],
)
def test_every_end(code: int | None, reason: str, disrupted: bool, state: str, expected: type[RagworksError] | None) -> None:
    found = failure(End("pod p", code, reason, disrupted=disrupted), replace(RUN, state=state), "train")
    assert type(found) is (expected or type(None))
    if expected is Transient and code != 0:
        assert "stopped at step 40" in str(found)


def test_a_model_that_is_trained_is_not_evaluated() -> None:
    assert isinstance(failure(End("pod p", 0), replace(RUN, state="trained"), "evaluate"), Transient)
    assert all(DONE["train"](replace(RUN, state=state)) for state in ("evaluated", "accepted", "refused"))


def test_steps_that_leave_the_state_as_it_is_are_known_by_what_they_wrote() -> None:
    done = End("pod p", 0)
    assert isinstance(failure(done, RUN, "baseline"), Transient)
    assert failure(done, replace(RUN, baseline={"questions": 60}), "baseline") is None
    trained = replace(RUN, state="trained")
    assert isinstance(failure(done, trained, "merge"), Transient)
    assert failure(done, replace(trained, training={"merge": {"kept": "adapter"}}), "merge") is None


def test_the_rows_own_words_come_first() -> None:
    end = End("pod p", 65, message="the last lines of the log")
    assert "the last lines" in str(failure(end, RUN, "train"))
    assert "12 pairs are too few" in str(failure(end, replace(RUN, error="12 pairs are too few"), "train"))
    assert "OutOfnvidia.com/gpu: no GPU left" in str(
        failure(End("pod p", None, "OutOfnvidia.com/gpu", "no GPU left"), RUN, "train")
    )


def _pod(phase: str = "Pending", *, labels: dict[str, str] | None = None, deleted: bool = False, **status: Any) -> Any:
    empty = {"phase": phase, "reason": None, "message": None, "conditions": None, "container_statuses": None}
    metadata = SimpleNamespace(labels=labels, creation_timestamp=NOW, deletion_timestamp=NOW if deleted else None)
    return SimpleNamespace(metadata=metadata, status=SimpleNamespace(**(empty | status)))


def _condition(kind: str, status: str, reason: str = "", message: str = "") -> Any:
    return SimpleNamespace(type=kind, status=status, reason=reason, message=message, last_transition_time=NOW)


def _container(**state: Any) -> Any:
    empty = {"waiting": None, "running": None, "terminated": None}
    return SimpleNamespace(name="base", image="i", state=SimpleNamespace(**(empty | state)))


def test_why_a_pod_waits() -> None:
    gated = _condition("PodScheduled", "False", "SchedulingGated", "gates")
    unschedulable = _condition("PodScheduled", "False", "Unschedulable", "0/3 nodes")
    scheduled = _condition("PodScheduled", "True")
    assert waiting(_pod()).phase == "unschedulable"  # the scheduler has not looked yet: the clock runs
    assert waiting(_pod(conditions=[gated])).phase == "queued"
    assert waiting(_pod(conditions=[unschedulable])).message == "0/3 nodes"
    assert waiting(_pod(conditions=[unschedulable])).since == NOW
    assert waiting(_pod(conditions=[unschedulable], labels={QUEUE_LABEL: "q"})).since is None
    assert waiting(_pod(conditions=[scheduled])).phase == "starting"
    assert waiting(_pod("Running")).phase == "started"
    assert waiting(_pod("Failed")).phase == "started"


def test_patience() -> None:
    from datetime import timedelta

    unschedulable = _pod(conditions=[_condition("PodScheduled", "False", "Unschedulable")])
    queued = _pod(conditions=[_condition("PodScheduled", "False", "SchedulingGated")], labels={QUEUE_LABEL: "q"})
    admitted = _pod(conditions=[_condition("PodScheduled", "False", "Unschedulable")], labels={QUEUE_LABEL: "q"})
    starting = _pod(conditions=[_condition("PodScheduled", "True")])
    at = lambda seconds: NOW + timedelta(seconds=seconds)  # noqa: E731
    assert not Patience(10, 60).over(waiting(unschedulable), at(9))
    assert Patience(10, 60).over(waiting(unschedulable), at(10))
    assert not Patience(10, 60).over(waiting(starting), at(59))
    assert Patience(10, 60).over(waiting(starting), at(60))
    patience = Patience(10, 60)
    assert not patience.over(waiting(queued), at(5000))
    assert not patience.over(waiting(admitted), at(5001))
    assert not patience.over(waiting(admitted), at(5010))
    assert patience.over(waiting(admitted), at(5011))


@pytest.mark.parametrize(
    ("reason", "message", "hopeless"),
    [
        ("ErrImagePull", "manifest unknown", True),
        ("ImagePullBackOff", 'Back-off pulling image "i": unauthorized', True),
        ("ErrImagePull", "dial tcp: i/o timeout", False),
        ("ImagePullBackOff", "toomanyrequests: rate limit", False),
        ("InvalidImageName", "", True),
        ("CreateContainerConfigError", 'secret "ragworks" not found', True),
        ("ContainerCreating", "", False),
    ],
)
def test_what_waiting_does_not_cure(reason: str, message: str, hopeless: bool) -> None:
    pod = _pod(container_statuses=[_container(waiting=SimpleNamespace(reason=reason, message=message))])
    assert bool(launch_problem(pod)) is hopeless


def test_how_a_pod_ended() -> None:
    ended = _container(terminated=SimpleNamespace(exit_code=75, reason="Error", message="saved"))
    assert end_of(_pod("Failed", container_statuses=[ended]), "p") == End("pod p", 75, "Error", "saved")
    assert end_of(_pod("Failed", container_statuses=[ended], deleted=True), "p").disrupted
    target = _condition("DisruptionTarget", "True", "PreemptionByScheduler")
    found = end_of(_pod("Failed", container_statuses=[ended], conditions=[target]), "p")
    assert (found.disrupted, found.reason) == (True, "PreemptionByScheduler")
    assert end_of(_pod("Failed", reason="Evicted", message="disk"), "p") == End(
        "pod p", None, "Evicted", "disk", disrupted=True
    )
    oom = _container(terminated=SimpleNamespace(exit_code=137, reason="OOMKilled", message=None))
    assert end_of(_pod("Failed", container_statuses=[oom]), "p").reason == "OOMKilled"
    assert end_of(None, "p").exit_code is None

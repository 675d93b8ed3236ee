"""Scarce GPUs: the next profile when no node takes a pod, queues of Kueue, and who gets the only GPU."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from include.errors import Transient
from tests.kubernetes.loopback import GPU, Node
from tests.kubernetes.tasks import revived, run_trigger, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from include.store.model_runs import ModelRun
    from tests.kubernetes.loopback import Cluster
    from tests.kubernetes.tasks import Task

    MakeTask = Callable[..., Task]
    Row = Callable[..., ModelRun]
    MakeFile = Callable[..., Path]

LARGE = {"name": "large", "node_selector": {"gpu": "large"}, "schedule_timeout_seconds": 1}
SMALL = {"name": "small", "node_selector": {"gpu": "small"}, "price_per_hour": 2.5}


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferrable", "sync"])
def test_the_next_profile_is_tried_and_named(
    deferrable: bool, task: MakeTask, profiles: MakeFile, planned: Row,
    row: Row, cluster: Cluster, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    planned()
    running = task(profiles_file=str(profiles(LARGE, SMALL)), deferrable=deferrable)
    running.run()
    run = row()
    assert (run.state, run.attempts) == ("trained", 1)
    assert (run.hardware["profile"], run.hardware["price"]) == ("small", "2.5")
    first, second = cluster.created
    assert first["metadata"]["name"] in cluster.deleted
    assert (first["spec"]["nodeSelector"], second["spec"]["nodeSelector"]) == ({"gpu": "large"}, {"gpu": "small"})
    assert len(running.deferrals) == 2 * deferrable  # while it waits for a node the worker has gone
    log = "".join(capfd.readouterr())
    assert "No node for profile large (1 nvidia.com/gpu, 1 CPU, 1Gi) in 1 s (0/1 nodes are available" in log
    assert "next is profile small" in log


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferrable", "sync"])
def test_no_profile_finds_a_node(
    deferrable: bool, task: MakeTask, profiles: MakeFile, planned: Row,
    row: Row, cluster: Cluster,
) -> None:  # fmt: skip
    planned()
    four = {"name": "four", "gpus": 4, "schedule_timeout_seconds": 1}
    with pytest.raises(Transient) as error:
        task(profiles_file=str(profiles(LARGE, four)), deferrable=deferrable).run()
    assert str(error.value) == (
        "no node for profile four (4 nvidia.com/gpu, 1 CPU, 1Gi) in 1 s, nor for any other profile (large, four): "
        "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. "
        "The retry begins with the first again; docs/gpu-tasks.md has what may be asked for"
    )
    assert cluster.pods == {}
    run = row()
    assert (run.state, run.error) == ("planned", str(error.value))
    why = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu"
    assert run.training["unscheduled"] == {"step": "train", "profiles": ["large", "four"], "why": why}
    cluster.add_node(Node("node-2", 1, {"gpu": "large"}))  # and the retry
    task(profiles_file=str(profiles(LARGE, four)), deferrable=deferrable).run()
    assert (row().state, row().error) == ("trained", None)


def test_a_second_pod_waits_for_the_gpu(task: MakeTask, planned: Row, row: Row, cluster: Cluster) -> None:
    planned("other", steps=20, seconds=0.1)
    other = task(run_key="other", pod={"labels": {"task": "other"}}).in_background()
    until(lambda: row("other").step)
    planned()
    mine = task().in_background()
    until(lambda: any(e["reason"] == "FailedScheduling" for e in cluster.events))
    assert row().state == "planned"
    assert (other.ended(), mine.ended()) == (None, None)
    assert (row("other").state, row().state) == ("trained", "trained")


def test_a_pod_in_a_queue_is_not_unschedulable(
    task: MakeTask, profiles: MakeFile, planned: Row, row: Row,
    cluster: Cluster,
) -> None:  # fmt: skip
    planned()
    queued = {"name": "queued", "kueue_queue": "training", "schedule_timeout_seconds": 1}

    def look(trigger: Any) -> dict[str, Any]:
        import asyncio

        async def three_seconds() -> None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(trigger.run()), 3)

        asyncio.run(three_seconds())
        cluster.admit()
        return run_trigger(revived(running.deferrals[-1]))

    running = task(profiles_file=str(profiles(queued)))
    running.run(look)
    (pod,) = cluster.created
    assert pod["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "training"
    assert row().state == "trained"


def test_an_admitted_pod_that_no_node_takes_is_given_up(
    task: MakeTask, profiles: MakeFile, planned: Row, row: Row,
    cluster: Cluster,
) -> None:  # fmt: skip
    planned()
    queued = {"name": "queued", "kueue_queue": "training", "gpus": 2, "schedule_timeout_seconds": 1}

    def look(trigger: Any) -> dict[str, Any]:
        cluster.admit()
        return run_trigger(trigger)

    task(profiles_file=str(profiles(queued, SMALL))).run(look)
    assert (row().state, len(cluster.created)) == ("trained", 2)


@pytest.mark.parametrize("over", [False, True], ids=["running", "over"])
def test_a_node_that_came_while_the_event_was_on_its_way_is_used(
    over: bool, task: MakeTask, profiles: MakeFile, planned: Row, row: Row, cluster: Cluster
) -> None:
    planned(steps=1 if over else 10, seconds=0.1)

    def look(trigger: Any) -> dict[str, Any]:
        event = run_trigger(trigger)
        if event["status"] == "timeout":
            cluster.add_node(Node("node-2", 1, {"gpu": "large"}))
            (pod,) = cluster.pods.values()
            until(lambda: pod.status["phase"] == "Succeeded" if over else row().step)
        return event

    task(profiles_file=str(profiles(LARGE, SMALL))).run(look)
    assert (row().state, row().hardware["profile"], len(cluster.created)) == ("trained", "large", 1)


def test_the_time_without_a_node_is_that_of_the_pod_not_of_who_looks(
    task: MakeTask, profiles: MakeFile, planned: Row, cluster: Cluster
) -> None:
    planned()

    def look(trigger: Any) -> dict[str, Any]:
        (pod,) = cluster.pods.values()
        pod.body["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"  # no triggerer looked for long
        began = time.monotonic()
        event = run_trigger(trigger)
        assert time.monotonic() - began < 60
        return event

    with pytest.raises(Transient, match="no node for profile large"):
        task(profiles_file=str(profiles(LARGE | {"schedule_timeout_seconds": 3600}))).run(look)


def test_more_gpus_than_the_profile_says(task: MakeTask, planned: Row, row: Row, cluster: Cluster) -> None:
    planned()
    cluster.add_node(Node("node-4", 4))
    task(gpus="4").run()
    assert cluster.created[0]["spec"]["containers"][0]["resources"]["limits"][GPU] == "4"
    assert row().state == "trained"

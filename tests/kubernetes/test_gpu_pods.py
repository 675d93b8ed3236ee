"""The task in pods, from the first request to the row that says it is done; commands run, the database is real."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from include.errors import BadConfiguration, BadData, RagworksError, ServiceUnavailable, Terminal, Transient
from tests.kubernetes.tasks import KEY, KUBECONFIG_TOKEN, revived, run_trigger, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from include.config import Settings
    from include.store.model_runs import ModelRun
    from tests.kubernetes.loopback import Cluster
    from tests.kubernetes.tasks import Task

    MakeTask = Callable[..., Task]
    Row = Callable[..., ModelRun]


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferrable", "sync"])
def test_success(
    deferrable: bool, task: MakeTask, planned: Row, row: Row, cluster: Cluster,
    capfd: pytest.CaptureFixture[str], settings: Settings,
) -> None:  # fmt: skip
    planned(says="loss 0.1234")
    running = task(deferrable=deferrable)
    running.run()
    run = row()
    assert (run.state, run.step, run.attempts) == ("trained", 3, 1)
    assert len(running.deferrals) == deferrable
    log = "".join(capfd.readouterr())
    assert "loss 0.1234" in log  # the pod's output is the task's log
    assert cluster.pods == {}  # a pod that succeeded is deleted
    assert KUBECONFIG_TOKEN not in log
    assert str(settings.database_url) not in log


@pytest.mark.parametrize(
    ("code", "error", "deferrable"),
    [
        (65, Terminal, True),
        (65, Terminal, False),
        (75, Transient, True),
        (69, ServiceUnavailable, True),
        (1, RagworksError, True),
    ],
)
def test_exit_codes(
    code: int, error: type[RagworksError], deferrable: bool, task: MakeTask, planned: Row,
    cluster: Cluster,
) -> None:  # fmt: skip
    planned(ends={"2": code})
    with pytest.raises(error, match="as the test wished") as caught:
        task(deferrable=deferrable).run()
    assert type(caught.value) is error
    (pod,) = cluster.pods.values()  # it is kept to be looked at
    assert (pod.status["phase"], pod.body["metadata"]["labels"]["already_checked"]) == ("Failed", "True")


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferrable", "sync"])
def test_preemption_saves_a_checkpoint_and_the_retry_goes_on_from_it(
    deferrable: bool,
    task: MakeTask,
    planned: Row,
    row: Row,
    cluster: Cluster,
) -> None:
    planned(steps=60, seconds=0.1)
    running = task(deferrable=deferrable)
    first = running.in_background()
    until(lambda: row().step >= 3)
    (name,) = cluster.pods
    cluster.preempt(name)
    error = first.ended()
    assert isinstance(error, Transient)
    stopped = row()
    assert stopped.state == "interrupted"
    with_three_more(stopped, row, running, planned)
    assert row().attempts == 2
    assert cluster.created[0]["metadata"]["name"] == name
    assert len(cluster.created) == 2


def with_three_more(stopped: ModelRun, row: Row, running: Task, planned: Row) -> None:
    """Cut the work short and run the retry: it must not begin at step 1."""
    from include.config import Settings
    from include.store import model_runs
    from include.store.pool import open_pool

    with open_pool(Settings.from_environment()) as pool, pool.connection() as connection:
        model_runs.change(connection, stopped.id, arguments={"steps": stopped.step + 3, "seconds": 0.05})
    running.run()
    assert (row().state, row().step) == ("trained", stopped.step + 3)


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferrable", "sync"])
def test_kill_9_in_the_pod_is_retried(
    deferrable: bool,
    task: MakeTask,
    planned: Row,
    row: Row,
    cluster: Cluster,
) -> None:
    planned(steps=600, seconds=0.1)
    running = task(deferrable=deferrable)
    first = running.in_background()
    until(lambda: row().step >= 2)
    cluster.kill(next(iter(cluster.pods)))
    error = first.ended()
    assert isinstance(error, Transient)
    assert "killed" in str(error)
    assert row().state == "training"  # it could not say more
    with_three_more(row(), row, running, planned)


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferrable", "sync"])
def test_a_pod_that_vanishes_is_retried(
    deferrable: bool,
    task: MakeTask,
    planned: Row,
    row: Row,
    cluster: Cluster,
) -> None:
    planned(steps=600, seconds=0.1)
    running = task(deferrable=deferrable)
    first = running.in_background()
    until(lambda: row().step >= 2)
    cluster.lose(next(iter(cluster.pods)))
    error = first.ended()
    assert isinstance(error, Transient)
    assert "the pod is gone" in str(error)
    with_three_more(row(), row, running, planned)


def test_a_pod_that_vanished_when_it_was_done_is_a_success(task: MakeTask, planned: Row, row: Row, cluster: Cluster) -> None:
    planned()

    def look(trigger: Any) -> dict[str, Any]:
        event = run_trigger(trigger)
        cluster.lose(next(iter(cluster.pods)))
        return event | {"status": "error", "message": "404"}

    task().run(look)
    assert row().state == "trained"


def test_success_without_the_row_saying_so_fails(task: MakeTask, planned: Row) -> None:
    planned(silent=True)
    with pytest.raises(Transient, match=f"exit code 0, but train is not done: training '{KEY}' is planned"):
        task().run()


def test_success_without_a_row_fails(task: MakeTask) -> None:
    with pytest.raises(BadData, match=f"no training has the key '{KEY}'"):
        task(command=["true"]).run()


def test_a_trained_model_is_not_an_evaluated_one(task: MakeTask, planned: Row, row: Row) -> None:
    planned()
    task().run()
    with pytest.raises(Transient, match="evaluate is not done"):
        task(step="evaluate", command=["true"]).run()
    task(step="evaluate").run()
    assert row().state == "evaluated"


def test_the_triggerer_is_restarted_in_the_middle(task: MakeTask, planned: Row, row: Row, cluster: Cluster) -> None:
    planned(steps=20, seconds=0.1)

    def look(trigger: Any) -> dict[str, Any]:
        asyncio.run(_watch_for_a_while(trigger, row))
        assert cluster.deleted == []  # a restart is no reason to end it
        return run_trigger(revived(running.deferrals[-1]))

    running = task()
    running.run(look)
    assert (row().state, row().attempts, len(cluster.created)) == ("trained", 1, 1)


async def _watch_for_a_while(trigger: Any, row: Row) -> None:
    watch = asyncio.ensure_future(anext(trigger.run()))
    await asyncio.to_thread(until, lambda: row().step)
    watch.cancel()
    with suppress(asyncio.CancelledError):
        await watch
    await trigger.cleanup()


def test_a_worker_that_died_is_followed_by_one_that_finds_its_pod(
    task: MakeTask, planned: Row, row: Row, cluster: Cluster
) -> None:
    planned(steps=20, seconds=0.1)
    running = task()

    def die(trigger: Any) -> dict[str, Any]:
        raise SystemExit("the worker is gone")

    with pytest.raises(SystemExit):
        running.run(die)
    running.run()
    assert (row().state, row().attempts, len(cluster.created)) == ("trained", 1, 1)


def test_the_api_fails_for_a_moment(task: MakeTask, planned: Row, row: Row, cluster: Cluster) -> None:
    planned(steps=10, seconds=0.1)

    def look(trigger: Any) -> dict[str, Any]:
        cluster.fail_next(2)
        return run_trigger(trigger)

    cluster.fail_next(1)
    task().run(look)
    assert (row().state, len(cluster.created)) == ("trained", 1)


def test_on_kill_deletes_the_pod_which_saves_a_checkpoint(task: MakeTask, planned: Row, row: Row, cluster: Cluster) -> None:
    planned(steps=600, seconds=0.1)
    running = task(deferrable=False)
    first = running.in_background()
    until(lambda: row().step >= 2)
    assert running.operator
    running.operator.on_kill()  # what Airflow calls from its signal handler
    assert isinstance(first.ended(), Transient)
    assert row().state == "interrupted"
    assert cluster.pods == {}


def test_a_deferred_task_that_is_marked_failed_deletes_its_pod(
    task: MakeTask, planned: Row, row: Row, cluster: Cluster
) -> None:
    planned(steps=600, seconds=0.1)

    def kill(trigger: Any) -> dict[str, Any]:
        until(lambda: row().step >= 2)
        asyncio.run(trigger.on_kill())
        raise SystemExit("marked failed")

    with pytest.raises(SystemExit):
        task().run(kill)
    until(lambda: not cluster.pods)
    assert row().state == "interrupted"


def test_the_execution_timeout_deletes_the_pod(task: MakeTask, planned: Row, row: Row, cluster: Cluster) -> None:
    planned(steps=600, seconds=0.1)

    def look(trigger: Any) -> dict[str, Any]:
        until(lambda: row().step)
        assert trigger.trigger_kwargs["_execution_deadline"] > time.time() + 3000
        trigger.trigger_kwargs["_execution_deadline"] = int(time.time())
        return run_trigger(trigger)

    with pytest.raises(Transient, match="reached its execution_timeout"):
        task(execution_timeout=timedelta(hours=1)).run(look)
    until(lambda: not cluster.pods)
    assert row().state == "interrupted"


def test_a_pod_may_not_live_longer_than_its_deadline(task: MakeTask, planned: Row, row: Row, cluster: Cluster) -> None:
    planned(steps=600, seconds=0.1)
    running = task(active_deadline_seconds=3600).in_background()
    until(lambda: row().step)
    assert cluster.created[0]["spec"]["activeDeadlineSeconds"] == 3600
    cluster.exceed_deadline(next(iter(cluster.pods)))
    error = running.ended()
    assert isinstance(error, Transient)
    assert "interrupted; the cluster says DeadlineExceeded" in str(error)
    assert row().state == "interrupted"


def test_a_missing_secret_and_a_missing_image_are_said_at_once(task: MakeTask, planned: Row, cluster: Cluster) -> None:
    planned()
    with pytest.raises(BadConfiguration, match=r"ErrImagePull: manifest for .*missing:1"):
        task(image="registry.example/missing:1").run()
    cluster.secrets = {}
    for deferrable in (True, False):
        with pytest.raises(BadConfiguration, match="CreateContainerConfigError: secret 'ragworks' not found"):
            task(deferrable=deferrable).run()
    assert cluster.pods == {}  # no GPU is held for them


def test_what_the_api_refuses_is_said(task: MakeTask, planned: Row, cluster: Cluster) -> None:
    planned()
    with pytest.raises(BadConfiguration, match="422"):
        task(pod={"labels": {"number": 5}}).run()
    cluster.fail_next(1, 403)
    with pytest.raises(BadConfiguration, match="403"):
        task().run()


def test_nothing_secret_is_stored_shown_or_sent(
    task: MakeTask, planned: Row, cluster: Cluster, settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    password = str(settings.database_url).partition("://")[2].partition("@")[0].partition(":")[2]
    extra = json.dumps({"extra": {"namespace": "ml", "cluster_context": "loopback"}, "password": "of-the-connection"})
    monkeypatch.setenv("AIRFLOW_CONN_CLUSTER", extra)
    planned()
    running = task(kubernetes_conn_id="cluster")
    running.run()
    shown = json.dumps([running.deferrals, cluster.created, running.xcoms, str(vars(running.operator))])
    for secret in (password, str(settings.database_url), KUBECONFIG_TOKEN, "of-the-connection"):
        assert secret not in shown
    assert json.loads(running.deferrals[0])["path"] == "ragworks.triggers.gpu_pod.GpuPodTrigger"


def test_a_run_key_is_not_expanded(task: MakeTask, planned: Row, row: Row, cluster: Cluster) -> None:
    key = "train_reranker/$(RAGWORKS_DATABASE_URL)"  # anybody may name a run so, over REST
    planned(key)
    task(run_key=key).run()
    assert row(key).state == "trained"

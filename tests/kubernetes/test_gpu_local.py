"""The same command as a child process of the worker: the same ends, and time for a checkpoint whoever stops it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from include.config import PROJECT_ROOT
from include.errors import BadData, RagworksError, ServiceUnavailable, Terminal, Transient
from tests.kubernetes.tasks import KEY, Task, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from include.config import Settings
    from include.store.model_runs import ModelRun

    MakeTask = Callable[..., Task]
    Row = Callable[..., ModelRun]

COMMAND = [sys.executable, "-m", "tests.kubernetes.trainer"]


@pytest.fixture
def task(in_environment: Settings, monkeypatch: pytest.MonkeyPatch) -> MakeTask:
    monkeypatch.setenv("RAGWORKS_COMPUTE", "local")

    def make(**arguments: Any) -> Task:
        return Task({"family": "reranker", "run_key": KEY, "command": COMMAND, "grace_seconds": 10, **arguments})

    return make


def test_success(
    task: MakeTask, planned: Row, row: Row, capfd: pytest.CaptureFixture[str],
    settings: Settings, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.delenv("RAGWORKS_DATABASE_URL")
    monkeypatch.setenv("AIRFLOW_CONN_RAGWORKS_POSTGRES", str(settings.database_url))  # the connection is handed on
    planned(says="loss 0.1234")
    running = task()
    running.run()
    assert (row().state, row().attempts, running.deferrals) == ("trained", 1, [])
    log = "".join(capfd.readouterr())
    assert "loss 0.1234" in log
    assert str(settings.database_url) not in log


@pytest.mark.parametrize(
    ("code", "error"), [(65, Terminal), (75, Transient), (69, ServiceUnavailable), (1, RagworksError), (137, Transient)]
)
def test_exit_codes(code: int, error: type[RagworksError], task: MakeTask, planned: Row) -> None:
    planned(ends={"2": code})
    with pytest.raises(error, match="as the test wished") as caught:
        task().run()
    assert type(caught.value) is error


def test_success_without_the_row_saying_so_fails(task: MakeTask, planned: Row) -> None:
    with pytest.raises(BadData, match="no training has the key"):
        task(command=["true"]).run()
    planned()
    with pytest.raises(Transient, match="exit code 0, but train is not done"):
        task(command=["true"]).run()


def test_on_kill_leaves_time_for_a_checkpoint_and_the_retry_goes_on(task: MakeTask, planned: Row, row: Row) -> None:
    planned(steps=40, seconds=0.1)
    running = task()
    first = running.in_background()
    until(lambda: row().step >= 2)
    assert running.operator
    running.operator.on_kill()
    error = first.ended()
    assert isinstance(error, Transient)
    assert "exit code" not in str(error)
    stopped = row()
    assert stopped.state == "interrupted"
    running.run()
    assert (row().state, row().step, row().attempts) == ("trained", 40, 2)


def test_who_does_not_listen_is_killed(task: MakeTask, planned: Row, row: Row) -> None:
    planned(steps=600, seconds=0.1, deaf=True)
    running = task(grace_seconds=1)
    first = running.in_background()
    until(lambda: row().step >= 2)
    assert running.operator
    running.operator.on_kill()
    error = first.ended()
    assert isinstance(error, Transient)
    assert "killed" in str(error)


def test_kill_9_of_the_command_is_retried(task: MakeTask, planned: Row, row: Row) -> None:
    planned(steps=600, seconds=0.1)
    first = task().in_background()
    until(lambda: row().step >= 2)
    os.kill(row().hardware["process"], signal.SIGKILL)
    error = first.ended()
    assert isinstance(error, Transient)
    assert "killed" in str(error)


def test_the_execution_timeout_leaves_time_for_a_checkpoint(task: MakeTask, planned: Row, row: Row) -> None:
    from airflow.sdk.exceptions import AirflowTaskTimeout

    def time_is_up(*_: object) -> None:
        raise AirflowTaskTimeout

    planned(steps=600, seconds=0.1)

    def wait() -> None:
        until(lambda: row().step >= 2)
        os.kill(os.getpid(), signal.SIGALRM)  # what Airflow's timer does

    before = signal.signal(signal.SIGALRM, time_is_up)
    threading.Thread(target=wait, daemon=True).start()
    try:
        with pytest.raises(Transient, match="reached its execution_timeout"):
            task().run()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert row().state == "interrupted"


@pytest.fixture
def worker(task: MakeTask) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs the task, as a worker does."""
    code = (
        "from tests.dags.airflow_home import use_own_airflow_home; use_own_airflow_home()\n"
        "from tests.kubernetes.tasks import KEY, Task; import sys\n"
        "command = [sys.executable, '-m', 'tests.kubernetes.trainer']\n"
        "Task(dict(family='reranker', run_key=KEY, command=command, grace_seconds=10)).run()\n"
    )
    path = os.pathsep.join([str(PROJECT_ROOT), str(PROJECT_ROOT / "plugins")])
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}, cwd=PROJECT_ROOT)
    yield process
    process.kill()
    process.wait()


def test_the_command_does_not_outlive_a_killed_worker(planned: Row, row: Row, worker: subprocess.Popen[bytes]) -> None:
    planned(steps=600, seconds=0.1)
    until(lambda: row().step >= 2, 60)
    process = row().hardware["process"]
    worker.kill()
    until(lambda: row().state == "interrupted")  # it saved a checkpoint, with nobody reading its output
    until(lambda: _is_gone(process))


def _is_gone(process: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(process, 0)
        time.sleep(0.05)
        return False
    return True

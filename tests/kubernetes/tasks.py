"""A GPU task run as Airflow runs it: deferred, stored, resumed by another process, tried again."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from ragworks.operators.gpu import GpuTaskOperator

KEY = "train_reranker/manual__1"
COMMAND = ["python", "-m", "tests.kubernetes.trainer"]
KUBECONFIG_TOKEN = "kubeconfig-token"


class Task:
    """One task instance: what Airflow keeps of it between its processes, and nothing more.

    ``deferrals`` has each trigger as it is stored.
    """

    def __init__(self, arguments: dict[str, Any]) -> None:
        self.arguments = arguments
        self.stored: dict[str, Any] = {}
        self.xcoms: dict[str, Any] = {}
        self.deferrals: list[str] = []
        self.try_number = 0
        self.started = datetime.now(UTC)
        self.operator: GpuTaskOperator | None = None

    def run(self, look: Callable[[Any], Any] | None = None) -> None:
        """One try, to its end.

        :param look: is given each trigger in place of running it to its event; returns the event.
        """
        self.try_number += 1
        self.started = datetime.now(UTC)
        step: Callable[[], None] = lambda: self._fresh().execute(self.context())  # noqa: E731
        while deferred := self._deferred(step):
            self.deferrals.append(stored_form(deferred.trigger))
            event = (look or run_trigger)(revived(self.deferrals[-1]))
            method = deferred.method_name
            step = lambda: getattr(self._fresh(), method)(self.context(), event=event)  # noqa: B023, E731

    @staticmethod
    def _deferred(step: Callable[[], None]) -> Any:
        from airflow.sdk.exceptions import TaskDeferred

        try:
            step()
        except TaskDeferred as deferred:
            return deferred
        return None

    def _fresh(self) -> GpuTaskOperator:
        from airflow.sdk.bases.operator import ExecutorSafeguard

        from ragworks.operators.gpu import GpuTaskOperator

        self.operator = GpuTaskOperator(task_id="train", **self.arguments)
        ExecutorSafeguard.tracker.set(self.operator)
        return self.operator

    def context(self) -> Any:
        instance = SimpleNamespace(
            dag_id="train_reranker", task_id="train", run_id="manual__1", map_index=-1, try_number=self.try_number,
            start_date=self.started, xcom_push=lambda key, value: self.xcoms.__setitem__(key, value),
        )  # fmt: skip
        store = SimpleNamespace(get=self.stored.get, set=self.stored.__setitem__)
        return {
            "ti": instance,
            "run_id": "manual__1",
            "dag": SimpleNamespace(dag_id="train_reranker"),
            "task_state_store": store,
        }

    def in_background(self) -> Background:
        """One try in a thread, so that something may happen to it."""
        return Background(self)


class Background:
    def __init__(self, task: Task) -> None:
        self.error: BaseException | None = None
        self._task = task
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._task.run()
        except BaseException as error:
            self.error = error

    def ended(self, seconds: float = 120) -> BaseException | None:
        """What it raised."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "the task still runs"
        return self.error


def stored_form(trigger: Any) -> str:
    """A trigger as Airflow's database has it."""
    from airflow.sdk.serde import serialize

    path, kwargs = trigger.serialize()
    return json.dumps({"path": path, "kwargs": serialize(kwargs)})


def revived(stored: str) -> Any:
    """A trigger as a triggerer makes it."""
    from airflow.sdk.module_loading import import_string
    from airflow.sdk.serde import deserialize

    found = json.loads(stored)
    return import_string(found["path"])(**deserialize(found["kwargs"]))


def run_trigger(trigger: Any) -> dict[str, Any]:
    """Its first event."""

    async def first() -> dict[str, Any]:
        async for event in trigger.run():
            return dict(event.payload)
        raise AssertionError("the trigger ended without an event")

    return asyncio.run(first())


def until(condition: Callable[[], Any], seconds: float = 120) -> Any:
    """Wait for something to be true."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
    return found

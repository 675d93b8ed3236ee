"""A small client of the local Airflow's REST API: sign in, trigger, follow."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import httpx

from include.errors import ServiceUnavailable, Transient

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from include.stack.airflow import StackStatus

POLL_SECONDS = 0.5
TIMEOUT = 120  # seconds for one answer: Airflow shares the processor with what it runs
FINAL = {"success", "failed"}


class AirflowApi:
    """Signed in as the local stack's user."""

    def __init__(self, stack: StackStatus) -> None:
        password = json.loads(stack.password_file.read_text())[stack.user]
        self._client = httpx.Client(base_url=stack.url, timeout=TIMEOUT, trust_env=False)
        answer = self._client.post("/auth/token", json={"username": stack.user, "password": password})
        self._client.headers["Authorization"] = f"Bearer {self._json(answer)['access_token']}"

    def trigger(self, dag_id: str, conf: Mapping[str, Any], *, patience: float = 60) -> str:
        """Start a run and return its id; waits until the DAG processor has seen a new DAG file.

        :raises ServiceUnavailable: the DAG did not appear.
        """
        deadline = time.monotonic() + patience
        while True:
            answer = self._client.post(f"/api/v2/dags/{dag_id}/dagRuns", json={"logical_date": None, "conf": dict(conf)})
            if answer.status_code != httpx.codes.NOT_FOUND:
                return str(self._json(answer)["dag_run_id"])
            if time.monotonic() > deadline:
                raise ServiceUnavailable(
                    f"Airflow does not know the DAG {dag_id}", f"not parsed within {patience:.0f} s", "See its import errors"
                )
            time.sleep(POLL_SECONDS)

    def follow(self, dag_id: str, run_id: str, *, seen: Callable[[str, str, float], None], timeout: float = 600) -> str:
        """Wait for a run to end.

        :param seen: called with (task, state, seconds) whenever a task ends.
        :return: ``success`` or ``failed``.
        :raises Transient: it did not end within ``timeout`` seconds.
        """
        told: set[str] = set()
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if (state := self.look(dag_id, run_id, told, seen)) in FINAL:
                return state
            time.sleep(POLL_SECONDS)
        raise Transient(f"the run {run_id} of {dag_id}", f"not finished after {timeout:.0f} s", "Look at it in the UI")

    def look(self, dag_id: str, run_id: str, told: set[str], seen: Callable[[str, str, float], None]) -> str:
        """The state of a run at this moment.

        :param told: tasks that ``seen`` was told of; those that have ended since are added.
        """
        place = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}"
        state = str(self._json(self._client.get(place))["state"])
        for task in self._json(self._client.get(f"{place}/taskInstances"))["task_instances"]:
            name = task["task_id"] + (f" {task['map_index'] + 1}" if task["map_index"] >= 0 else "")
            if task["state"] in FINAL | {"skipped", "upstream_failed"} and name not in told:
                told.add(name)
                seen(name, task["state"], float(task["duration"] or 0))
        return state

    def task(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """What Airflow knows of a task of a run: state, start_date, duration …"""
        return self._json(self._client.get(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"))

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Every run of a DAG, oldest first."""
        found: list[dict[str, Any]] = self._json(self._client.get(f"/api/v2/dags/{dag_id}/dagRuns"))["dag_runs"]
        return sorted(found, key=lambda run: str(run["run_after"]))

    def answer(self, dag_id: str, run_id: str, task_id: str, option: str) -> None:
        """Answer a task that waits for a person, as the UI's button does.

        :param option: ``Approve`` or ``Reject``.
        """
        place = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/-1/hitlDetails"
        self._json(self._client.patch(place, json={"chosen_options": [option], "params_input": {}}))

    def _json(self, answer: httpx.Response) -> dict[str, Any]:
        if answer.is_error:
            what = f"Airflow answers {answer.status_code} to {answer.request.url.path}"
            raise ServiceUnavailable(what, answer.text[:300], "See the logs of the stack")
        return dict(answer.json())

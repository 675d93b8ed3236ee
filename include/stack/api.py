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
FINAL = {"success", "failed"}


class AirflowApi:
    """Signed in as the local stack's user."""

    def __init__(self, stack: StackStatus) -> None:
        password = json.loads(stack.password_file.read_text())[stack.user]
        self._client = httpx.Client(base_url=stack.url, timeout=30, trust_env=False)
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
            state = str(self._json(self._client.get(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}"))["state"])
            for task in self._json(self._client.get(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances"))["task_instances"]:
                name = task["task_id"] + (f" {task['map_index'] + 1}" if task["map_index"] >= 0 else "")
                if task["state"] in FINAL | {"skipped", "upstream_failed"} and name not in told:
                    told.add(name)
                    seen(name, task["state"], float(task["duration"] or 0))
            if state in FINAL:
                return state
            time.sleep(POLL_SECONDS)
        raise Transient(f"the run {run_id} of {dag_id}", f"not finished after {timeout:.0f} s", "Look at it in the UI")

    def _json(self, answer: httpx.Response) -> dict[str, Any]:
        if answer.is_error:
            what = f"Airflow answers {answer.status_code} to {answer.request.url.path}"
            raise ServiceUnavailable(what, answer.text[:300], "See the logs of the stack")
        return dict(answer.json())

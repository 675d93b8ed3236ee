"""One local Airflow with its database, driven as a person would: commands, REST, and the HTTP API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx

from include.config import PROJECT_ROOT, Settings
from include.stack import airflow
from include.stack.api import FINAL, POLL_SECONDS, AirflowApi
from tests.conftest import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

WAIT = 3600.0


class Stack:
    """A running Airflow and the command line beside it."""

    def __init__(self, settings: Settings, api: AirflowApi) -> None:
        self.settings, self.api = settings, api
        self._environment = os.environ | {
            "RAGWORKS_HOME": str(settings.home),
            "RAGWORKS_COLLECTIONS_DIR": str(settings.collections_dir),
            "RAGWORKS_ARTIFACTS": settings.artifacts,
            "HF_HUB_OFFLINE": "1",
        }

    def command(self, *arguments: str) -> dict[str, Any]:
        """A command of ours, its JSON result and the seconds of the whole process."""
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "include", *arguments, "--json"],
            cwd=PROJECT_ROOT, env=self._environment, check=False, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)}: exit {done.returncode}: {done.stdout[-500:]}")
        return {**json.loads(done.stdout), "process_seconds": round(time.monotonic() - started, 1)}

    def run_dag(self, dag_id: str, conf: Mapping[str, Any], *, choice: str = "Approve") -> dict[str, Any]:
        """Trigger, answer whoever asks for approval, and tell how each task ended."""
        started = time.monotonic()
        run = self.api.trigger(dag_id, conf)
        tasks: dict[str, Any] = {}
        told: set[str] = set()

        def seen(task: str, state: str, seconds: float) -> None:
            tasks[task] = {"state": state, "seconds": round(seconds, 1)}
            print(f"  {dag_id} {task}: {state} {seconds:.1f} s", file=sys.stderr, flush=True)

        answered = False
        while (state := self.api.look(dag_id, run, told, seen)) not in FINAL and time.monotonic() - started < WAIT:
            if not answered and "gate" in told:
                answered = self._ask(dag_id, run, choice)
            time.sleep(POLL_SECONDS)
        return {"run_id": run, "state": state, "tasks": tasks, "seconds": round(time.monotonic() - started, 1)}

    def _ask(self, dag_id: str, run: str, choice: str) -> bool:
        """Answer the approval if it waits."""
        if self.api.task(dag_id, run, "approve")["state"] != "awaiting_input":
            return False
        time.sleep(3)  # Airflow 3.3.2 fails a task that is answered in the moment in which it parks
        self.api.answer(dag_id, run, "approve", choice)
        return True

    @contextmanager
    def serving(self) -> Iterator[httpx.Client]:
        """The HTTP API, with a key."""
        port = free_port()
        key = self.command("keys", "create", f"bench-{port}")["key"]
        process = subprocess.Popen(
            [sys.executable, "-m", "include", "serve", "--port", str(port)], cwd=PROJECT_ROOT, env=self._environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            headers = {"Authorization": f"Bearer {key}"}
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60, trust_env=False) as client:
                _until_healthy(client)
                yield client
        finally:
            process.terminate()
            process.wait(30)


@contextmanager
def running(settings: Settings) -> Iterator[Stack]:
    """The stack, started and stopped."""
    try:
        status = airflow.up(settings, port=free_port(), progress=lambda line: print(line, file=sys.stderr))
        yield Stack(settings, AirflowApi(status))
    finally:
        airflow.down(settings, progress=lambda line: print(line, file=sys.stderr))


def settings_in(folder: Path) -> Settings:
    """Settings of a stack of its own."""
    collections = folder / "collections"
    collections.mkdir(parents=True, exist_ok=True)
    return Settings(home=folder / "home", collections_dir=collections, artifacts=(folder / "artifacts").as_uri())


def _until_healthy(client: httpx.Client) -> None:
    began = time.monotonic()
    while True:
        try:
            if client.get("/healthz").is_success:
                return
        except httpx.TransportError:
            pass
        if time.monotonic() - began > 120:
            raise RuntimeError("the HTTP API does not answer")
        time.sleep(0.3)

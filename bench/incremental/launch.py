"""Starts a peer's process, watches it, kills it, and never waits for it longer than it may take."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from bench.workload.process import ROOT, ChildFailed, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.incremental.peer import Job

PAUSE_SECONDS = 5.0  # in which SIGKILL surely arrives
WRITTEN = "written"  # a moment to kill at: rows are written, the peer's own notes are not


class Launcher:
    """Runs one peer's work again and again.

    :param limit: seconds after which a process is ended and counts as failed.
    """

    def __init__(self, python: str, module: str, limit: float) -> None:
        self._command, self._limit = [python, "-m", module], limit

    def work(self, job: Job, during: Callable[[threading.Event], None] | None = None) -> dict[str, Any]:
        """One run to its end: what the child reported.

        :param during: called in a thread when the clock starts, until its event is set.
        :raises ChildFailed: it did not end well.
        """
        with self._started(job) as process:
            ended, watcher, last = threading.Event(), None, ""
            for line in process.stdout or ():
                if line.startswith("WORK") and during:
                    watcher = threading.Thread(target=during, args=(ended,))
                    watcher.start()
                if line.startswith("{"):
                    last = line
                    ended.set()
            ended.set()
            if watcher:
                watcher.join()
            self._check(process)
        result: dict[str, Any] = json.loads(last)
        return result

    def kill(self, job: Job, moment: float | str) -> bool:
        """Start the work and kill it with SIGKILL.

        :param moment: seconds after the clock started, or :data:`WRITTEN`.
        :return: False when it had ended by then, or knows no such moment.
        """
        mark = "WRITTEN" if moment == WRITTEN else "WORK"
        with self._started(replace(job, pause=PAUSE_SECONDS)) as process:
            for line in process.stdout or ():
                if line.startswith(mark):
                    if isinstance(moment, float):
                        time.sleep(moment)
                    killed = process.poll() is None
                    _end(process)
                    return killed
            self._check(process)
        return False

    @contextmanager
    def _started(self, job: Job) -> Iterator[subprocess.Popen[str]]:
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(
                [*self._command, json.dumps(asdict(job), default=str)],
                cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True,
            )  # fmt: skip
            timer = threading.Timer(self._limit, _end, (process,))
            timer.start()
            try:
                yield process
            except ChildFailed as error:
                errors.seek(0)
                raise ChildFailed(f"{error}: {_reason(errors.read())}") from None
            finally:
                timer.cancel()
                _end(process)
                process.wait()

    def _check(self, process: subprocess.Popen[str]) -> None:
        if code := process.wait():
            late = code == -signal.SIGKILL
            raise ChildFailed(f"not done within {self._limit:.0f} s" if late else f"exit code {code}")


def _end(process: subprocess.Popen[str]) -> None:
    """Kill the process with all that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def _reason(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:400] if lines else "it said nothing"

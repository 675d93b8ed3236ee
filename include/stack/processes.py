"""The processes of the local stack: started detached, known by a file, stopped gently and then for certain."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from include.config import PROJECT_ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import psutil

PATIENCE = 1.0  # seconds for a gentle end
_SECOND_SIGNAL_SECONDS = 2.0
_CLOCK_SECONDS = 60.0  # how far the clock may have been set since the start


def start(home: Path, name: str, arguments: Sequence[str], environment: dict[str, str]) -> None:
    """Start ``python -m ARGUMENTS`` in a session of its own, its output in ``home/logs/NAME.log``."""
    log = log_file(home, name)
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists():
        log.replace(log.with_suffix(".log.1"))
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments], cwd=PROJECT_ROOT, env=environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    entry = _entry(home, name)
    entry.parent.mkdir(parents=True, exist_ok=True)
    entry.write_text(json.dumps({"pid": process.pid, "started": time.time()}))


def find(home: Path, name: str) -> psutil.Process | None:
    """The living process of that name, None when there is none; a process that got its id later is not it."""
    import psutil

    try:
        known = json.loads(_entry(home, name).read_text())
        process = psutil.Process(int(known["pid"]))
        same = abs(process.create_time() - float(known["started"])) < _CLOCK_SECONDS
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, psutil.Error):
        return None


def stop(home: Path, names: Sequence[str], patience: float = PATIENCE) -> list[str]:
    """Stop these processes, all at once.

    :param patience: seconds until the second signal, which to all of Airflow's components says: do not wait for others.
    :returns: those that were running, by name.
    """
    import psutil

    found = {name: process for name in names if (process := find(home, name)) is not None}
    left = list(found.values())
    for seconds in (patience, _SECOND_SIGNAL_SECONDS):
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.terminate()
        _, left = psutil.wait_procs(left, timeout=seconds)
    for name, process in found.items():
        _end_session(process.pid)
        _entry(home, name).unlink(missing_ok=True)
    return list(found)


def _end_session(leader: int) -> None:
    """Kill what is left of a component: itself if it hangs, and children that it did not take along."""
    import psutil

    left = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                left.append(process)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=5)


def log_file(home: Path, name: str) -> Path:
    """Where a component's output goes; the run before is beside it as ``.log.1``."""
    return home / "logs" / f"{name}.log"


# An exception's line, a logged error, or a command line's complaint: its help may be written after it.
_SEVERE = re.compile(r"[\w.]*(Error|Exception|Exit)\b|.*\b(ERROR|CRITICAL)\b|.*\berror: ")


def last_line(log: Path) -> str:
    """The line of a log that says best why its process ended."""
    text = log.read_text(errors="replace")[-20_000:] if log.exists() else ""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in text.splitlines() if line.strip()]
    severe = [line for line in lines if _SEVERE.match(line)]
    return (severe or lines or ["no output"])[-1][:500]


def _entry(home: Path, name: str) -> Path:
    return home / "run" / f"{name}.json"

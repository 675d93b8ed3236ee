"""Work that is measured runs in a process of its own: nobody's memory, imports or caches count for another."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class ChildFailed(Exception):
    """A measured process ended badly; the message is the end of what it said."""


def call(module: str, arguments: dict[str, Any], *, limit: float, python: str = sys.executable) -> dict[str, Any]:
    """Run ``python -m module JSON`` and return the JSON object on its last line, with the seconds of the whole process.

    :raises ChildFailed: it failed, or did not end within ``limit`` seconds.
    """
    started = time.monotonic()
    command = [python, "-m", module, json.dumps(arguments)]
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired as error:
        raise ChildFailed(f"{module} did not end within {limit:.0f} s") from error
    if done.returncode:
        raise ChildFailed(f"{module} ended with {done.returncode}: {done.stderr.strip()[-1500:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result | {"process_seconds": round(time.monotonic() - started, 2)}


def environment() -> dict[str, str]:
    """Of a child: it finds the project and asks no network for models."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "plugins")])
    return os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}


def stop_cleanly() -> None:
    """Let SIGTERM end this process as an exception does: its children and its server are stopped too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def peak_memory() -> int:
    """Most bytes this process has had in memory (VmHWM)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0

"""Components as real processes: found by their file, never mistaken for another, and gone after stop."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from include.stack import processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

STUBBORN = """
import pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"])
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
time.sleep(60)
"""


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[[str, str], None]]:
    """Starts a module of this text under a name."""
    started = []

    def start(name: str, text: str) -> None:
        (tmp_path / f"{name}_component.py").write_text(text)
        started.append(name)
        environment = os.environ | {"PYTHONPATH": str(tmp_path)}
        processes.start(tmp_path, name, [f"{name}_component", str(tmp_path / "child")], environment)

    yield start
    processes.stop(tmp_path, started)


def test_a_started_process_is_found_and_stopped(tmp_path: Path, launch: Callable[[str, str], None]) -> None:
    launch("sleeper", "import time; print('here', flush=True); time.sleep(60)")
    found = processes.find(tmp_path, "sleeper")
    assert found is not None
    assert os.getsid(found.pid) == found.pid
    while "here" not in processes.log_file(tmp_path, "sleeper").read_text():
        time.sleep(0.02)
    assert processes.stop(tmp_path, ["sleeper", "never-started"]) == ["sleeper"]
    assert processes.find(tmp_path, "sleeper") is None
    assert processes.stop(tmp_path, ["sleeper"]) == []


def test_one_that_ignores_signals_goes_with_its_children(tmp_path: Path, launch: Callable[[str, str], None]) -> None:
    launch("stubborn", STUBBORN)
    while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text():
        time.sleep(0.02)
    processes.stop(tmp_path, ["stubborn"], patience=0.1)
    child = int((tmp_path / "child").read_text())
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_a_reused_id_is_another_process(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    entry = {"pid": os.getpid(), "started": psutil.Process().create_time() - 3600}
    (tmp_path / "run/scheduler.json").write_text(json.dumps(entry))
    assert processes.find(tmp_path, "scheduler") is None
    assert processes.stop(tmp_path, ["scheduler"]) == []


def test_a_broken_entry_is_no_process(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for text in ("", "[]", '{"pid": "x", "started": 1}', '{"pid": 99999999, "started": 1}'):
        (tmp_path / "run/scheduler.json").write_text(text)
        assert processes.find(tmp_path, "scheduler") is None


def test_the_line_that_says_why(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("starting\n\x1b[31mTraceback (most recent call last):\x1b[0m\n  File x\nValueError: the reason\nbye\n")
    assert processes.last_line(log) == "ValueError: the reason"
    log.write_text("only this\n\n")
    assert processes.last_line(log) == "only this"
    log.write_text(
        "airflow triggerer command error: argument --capacity: invalid int value: 'many'\nusage: …\n  -v  more verbose\n"
    )
    assert processes.last_line(log).endswith("'many'")
    assert processes.last_line(tmp_path / "absent") == "no output"

"""Runs a command as a child that outlives nobody: ``python child.py SECONDS COMMAND …``, standard library alone.

Asked to stop by SIGTERM, or by the end of its standard input, which means that its parent died by whatever cause, it passes
SIGTERM on and gives the command that many seconds to save a checkpoint before it kills its whole process group. Airflow kills
a task's process after five seconds, which is not enough to save anything: so this process stands between the two. Its exit
code is the command's, or 128 and the signal that ended it, as in a container.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress

POLL_SECONDS = 0.2
BYTES = 65_536


def main(seconds: float, command: list[str]) -> int:
    """Run the command and hand its output on.

    :returns: its exit code, or 128 + signal.
    """
    asked: list[float] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.append(time.monotonic()))
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as child:
        output, told = child.stdout.fileno() if child.stdout else -1, False
        while child.poll() is None:
            if _pass_on(output, POLL_SECONDS) == b"":
                time.sleep(POLL_SECONDS)  # it closed its output and goes on
            if not asked and _parent_died():
                asked.append(time.monotonic())
            if asked and not told:
                told = True
                child.terminate()
            if asked and time.monotonic() - asked[0] > seconds:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
        while _pass_on(output, 0):  # what is left; its own children may hold the other end open
            pass
    return 128 - child.returncode if child.returncode < 0 else child.returncode


def _pass_on(source: int, wait: float) -> bytes | None:
    """Copy what there is to standard output; None: nothing came. Without a reader it is thrown away: the work goes on."""
    readable, _, _ = select.select([source], [], [], wait)
    if not readable:
        return None
    data = os.read(source, BYTES)
    rest = data
    with suppress(BrokenPipeError):
        while rest:
            rest = rest[os.write(1, rest) :]
    return data


def _parent_died() -> bool:
    readable, _, _ = select.select([0], [], [], 0)
    return bool(readable) and not os.read(0, 1)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))

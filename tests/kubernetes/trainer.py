"""Stands for the training command where a test wants a certain end: it keeps the training's row as the real one does.

What it does is in the row's arguments: ``steps`` of ``seconds`` each; ``ends``: {step: exit code}; ``silent``: leaves the row
as it is; ``deaf``: ignores SIGTERM; ``says``: a line of its log. SIGTERM makes it note its step and end with 75.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from typing import Any

from include.config import Settings
from include.store import model_runs
from include.store.pool import open_pool


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("family")
    parser.add_argument("--run-key", required=True)
    parser.add_argument("--step", required=True)
    given = parser.parse_args()
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(1))
    with open_pool(Settings.from_environment()) as pool, pool.connection() as connection:
        connection.autocommit = True
        run = model_runs.by_key(connection, given.run_key)
        wishes: dict[str, Any] = run.arguments

        def note(**columns: Any) -> None:
            if not wishes.get("silent"):
                model_runs.change(connection, run.id, **columns)

        print(f"{given.family} {given.step} from step {run.step}", flush=True)
        print(wishes.get("says", ""), flush=True)
        price = os.environ.get("RAGWORKS_GPU_PRICE_PER_HOUR")
        hardware = {"profile": os.environ.get("RAGWORKS_GPU_PROFILE"), "price": price, "process": os.getpid()}
        note(state="training", attempts=run.attempts + 1, error=None, hardware=hardware)
        for step in range(run.step + 1, wishes["steps"] + 1):
            time.sleep(wishes["seconds"])
            note(step=step)
            if told and not wishes.get("deaf"):
                print(f"interrupted at step {step}", flush=True)
                note(state="interrupted")
                return 75
            if (code := wishes.get("ends", {}).get(str(step))) is not None:
                note(state="failed", error="as the test wished")
                return int(code)
        note(state="evaluated" if given.step == "evaluate" else "trained", gpu_seconds=1.5)
    return 0


if __name__ == "__main__":
    sys.exit(main())

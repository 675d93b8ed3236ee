"""Several GPUs: a process each. The first does all that a single one would; the others only compute with it.

The first one holds the lock, writes the row and the checkpoints and decides when to stop; the others follow what it says after
each step (:meth:`include.training.watch.Watch.on_step_end`) and end with it. torchrun would do the starting too, and would turn
each exit code into 1: it says 65, 69 and 75 here, by which Airflow knows whether to try again.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from include.errors import BadConfiguration, Transient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.training.job import Job

logger = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "include.training.llm.follower")
GRACE_SECONDS = 30.0  # for the first process to say itself what was wrong, when another one is gone


@contextmanager
def together(job: Job, gpus: int) -> Iterator[None]:
    """Have ``gpus`` processes train, this one among them; the others are gone when the block ends.

    :raises BadConfiguration: there are fewer GPUs here.
    """
    if gpus == 1 or job.rank:
        yield
        return
    _check(job, gpus)
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(gpus)}
    others = [
        subprocess.Popen(
            [*COMMAND, job.run.run_key, str(job.staging)],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank), **_database(job)},
            stdin=subprocess.PIPE,  # held open: its end tells them that this process died
            start_new_session=True,  # a signal to the group is for the first one
        )
        for rank in range(1, gpus)
    ]
    done = threading.Event()
    own = shared | {"RANK": "0", "LOCAL_RANK": "0"}
    os.environ.update(own)
    threading.Thread(target=_watch, args=(others, done), daemon=True).start()
    try:
        yield
    finally:
        done.set()
        for one in others:
            one.kill()
            one.wait()
        for name in own:
            os.environ.pop(name, None)
        _leave()


def _check(job: Job, gpus: int) -> None:
    import torch

    here = torch.cuda.device_count()
    if job.hardware.device == "cpu":
        logger.warning("no GPU is here: %d processes share the processor", gpus)
    elif here < gpus:
        raise BadConfiguration(f"gpus: {gpus}", f"{here} are here", "Ask for as many as the profile's nodes have")


def _database(job: Job) -> dict[str, str]:
    url = job.settings.database_url
    return {"RAGWORKS_DATABASE_URL": url} if url else {}


def _free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])


def _watch(others: list[subprocess.Popen[bytes]], done: threading.Event) -> None:
    """Without one of them the first would wait for it in vain: it ends, and a retry goes on from the checkpoint."""
    while not done.wait(1.0):
        gone = [one for one in others if one.poll() is not None]  # in order they stay until they are ended
        if gone and not done.wait(GRACE_SECONDS):
            logger.error("process %d of this training ended with %s: all end", gone[0].pid, gone[0].returncode)
            for one in others:
                one.kill()
            os._exit(Transient.exit_code)


def _leave() -> None:
    from accelerate.state import AcceleratorState, PartialState
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState._reset_state()

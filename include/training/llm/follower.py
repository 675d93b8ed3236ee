"""One of the further processes of a training on several GPUs: ``python -m include.training.llm.follower KEY STAGING``.

It reads row, data, base and checkpoint as the first process does, computes its share of each step, and writes nothing.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from include.config import Settings
from include.progress import Silent
from include.store import collections, datasets, model_runs
from include.store.pool import open_pool
from include.training.arguments import arguments_of
from include.training.checkpoints import Checkpoints
from include.training.hardware import this_machine
from include.training.interruption import SIGNALS, Interruption
from include.training.job import Job

if TYPE_CHECKING:
    from include.store.pool import Pool
    from include.training.arguments import LlmArguments
    from include.training.ledger import Ledger


class NoLedger:
    """The first process writes the row."""

    def note(self, training: dict[str, Any] | None = None, **columns: Any) -> None:
        """Nothing."""

    def hours(self) -> float:
        """The first process decides by its own."""
        return 0.0


def main(run_key: str, staging: str) -> None:
    """Train along."""
    from include.training.llm.finetune import fitted

    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # the first process decides
    threading.Thread(target=_end_with_the_first, daemon=True).start()
    settings = Settings.from_environment()
    with open_pool(settings) as pool:
        fitted(_job(settings, pool, run_key, Path(staging)))
    threading.Event().wait()  # until the first ends: a process that left would tear a barrier which the first is still in


def _end_with_the_first() -> None:
    """Standard input ends when the first process does, by whatever cause: nothing is left to compute for.

    In order it does not come to that: the first one ends this process as soon as its own training is over.
    """
    sys.stdin.buffer.read()
    os._exit(1)


def _job(settings: Settings, pool: Pool, run_key: str, staging: Path) -> Job:
    from include.training.train import base_folder

    with pool.connection() as connection:
        run = model_runs.by_key(connection, run_key)
        dataset = datasets.dataset(connection, run.dataset_id or 0)
        collection = collections.collection_name(connection, run.collection_id)
    arguments = arguments_of(run.family, run.arguments)
    return Job(
        settings, pool, run, collection, dataset, arguments, base_folder(settings, run),
        this_machine(gpus=cast("LlmArguments", arguments).gpus), staging, Checkpoints(settings, run_key),
        cast("Ledger", NoLedger()), Interruption(), Silent(), rank=int(os.environ["RANK"]),
    )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What a training writes on its row while it goes on: steps, seconds, cost. Losing a process loses none of it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg

from include.errors import ServiceUnavailable
from include.store import model_runs
from include.store.errors import translate
from include.training.hardware import cost

if TYPE_CHECKING:
    from include.store.model_runs import ModelRun
    from include.store.pool import Connection
    from include.training.hardware import Hardware


NOTED = "noted_at"  # in the manifest: when the training last gave a sign of life


class Ledger:
    """Writes on a row by the connection that holds the training's lock, so that nobody writes who does not hold it.

    :param run: with what earlier attempts used up, and what they cost: each is paid at the price of where it ran.
    :param price_per_hour: of a GPU, or of the machine where there is none.
    """

    def __init__(self, connection: Connection, run: ModelRun, hardware: Hardware, price_per_hour: float | None) -> None:
        self._connection, self._run, self._hardware, self._price = connection, run, hardware, price_per_hour
        self._started = time.monotonic()
        self._used = float(run.training.get("machine_seconds", 0.0))
        self._before = run.gpu_seconds
        # What ran before anybody named a price is paid at the one that is named now.
        self._paid = run.cost if run.cost is not None else cost(self._before, self._used, price_per_hour)

    def hours(self) -> float:
        """GPU-hours, or without a GPU hours, that all attempts took until now."""
        elapsed = time.monotonic() - self._started
        gpu_seconds = self._before + elapsed * self._hardware.gpus
        return (gpu_seconds if self._hardware.gpus else self._used + elapsed) / 3600

    def note(self, training: dict[str, Any] | None = None, **columns: Any) -> None:
        """Write columns, and what was used up until now.

        :param training: in place of what the column of that name holds.
        :raises ServiceUnavailable: the database is away.
        """
        elapsed = time.monotonic() - self._started
        seconds = self._used + elapsed
        gpu_seconds = self._before + elapsed * self._hardware.gpus
        now = datetime.now(UTC).isoformat(timespec="seconds")
        kept = {**self._run.training, **(training or {}), "machine_seconds": round(seconds, 1), NOTED: now}
        self._run = _with_training(self._run, kept)
        try:
            model_runs.change(
                self._connection, self._run.id, training=kept, gpu_seconds=gpu_seconds,
                cost=paid(self._paid, cost(elapsed * self._hardware.gpus, elapsed, self._price)), **columns,
            )  # fmt: skip
        except psycopg.Error as error:
            raise translate(error) or ServiceUnavailable("Postgres went away", str(error), "Run it again") from error


def paid(before: float | None, now: float | None) -> float | None:
    """The cost of all attempts; None when none has a price. One that has none counts nothing."""
    return None if before is None and now is None else round((before or 0.0) + (now or 0.0), 6)


def _with_training(run: ModelRun, training: dict[str, Any]) -> ModelRun:
    from dataclasses import replace

    return replace(run, training=training)

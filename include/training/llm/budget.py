"""How much a training may read and cost: it ends in order there, with the best weights so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from include.training.arguments import LlmArguments
    from include.training.job import Job


class Budget:
    """Asked after each step whether it is used up; what killed attempts used counts too, up to their last line in the row."""

    def __init__(self, job: Job) -> None:
        self._arguments, self._ledger = cast("LlmArguments", job.arguments), job.ledger
        self._unit = "GPU-hours" if job.hardware.gpus else "hours"

    def __call__(self, state: Any) -> str:
        """Why training ends after this step; empty: it goes on.

        :param state: of a transformers Trainer that counts the tokens it reads.
        """
        return spent(self._arguments, tokens=int(state.num_input_tokens_seen), hours=self._ledger.hours(), unit=self._unit)


def spent(arguments: LlmArguments, *, tokens: int, hours: float, unit: str) -> str:
    """Which limit is reached; empty: none."""
    if arguments.max_tokens and tokens >= arguments.max_tokens:
        return f"after {tokens} of at most {arguments.max_tokens} tokens"
    if arguments.max_gpu_hours and hours >= arguments.max_gpu_hours:
        return f"after {hours:.2f} of at most {arguments.max_gpu_hours:g} {unit}"
    return ""

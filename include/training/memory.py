"""What a training knows beside its weights, kept in each checkpoint: scores, the best step, the seconds spent."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from include.errors import BadData

if TYPE_CHECKING:
    from pathlib import Path

FILE = "memory.json"


@dataclass(slots=True)
class Memory:
    """As of a step.

    :param questions: fingerprint of what the scores were measured on; scores on something else cannot be compared.
    :param baseline: scores of the model before it was trained.
    :param dev: scores along the way, each with its step; ``best`` is one of them.
    :param seconds: in the loop, all attempts together; ``aside`` of these for scores and checkpoints.
    :param finished: why there is nothing left to train, empty while there is.
    :param resumed: steps at which an attempt went on.
    """

    questions: str = ""
    baseline: dict[str, float] | None = None
    dev: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, float] | None = None
    seconds: float = 0.0
    aside: float = 0.0
    planned: int = 0
    finished: str = ""
    resumed: list[int] = field(default_factory=list)

    def scored_at(self, step: int) -> bool:
        """Whether the model of that step was scored."""
        return any(one["step"] == step for one in self.dev)

    def forget_scores(self) -> None:
        """Of questions that are not the same any more."""
        self.baseline, self.dev, self.best = None, [], None

    def save(self, folder: Path) -> None:
        """Write it."""
        (folder / FILE).write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Memory:
        """Read what :meth:`save` wrote.

        :raises BadData: it is damaged.
        """
        try:
            values: dict[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))
            return cls(**values)
        except (OSError, ValueError, TypeError) as error:
            raise BadData(f"checkpoint {folder}", f"its {FILE} is damaged ({error})", "Remove it, and train again") from error

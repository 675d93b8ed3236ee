"""What the parts of one training share, and what a family hands back when its model is done."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from include.store import datasets

if TYPE_CHECKING:
    from pathlib import Path

    from include.config import Settings
    from include.progress import Progress
    from include.store.datasets import Dataset, Pair
    from include.store.model_runs import ModelRun
    from include.store.pool import Pool
    from include.training.arguments import TrainingArguments
    from include.training.checkpoints import Checkpoints
    from include.training.hardware import Hardware
    from include.training.interruption import Interruption
    from include.training.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt at a training.

    :param collection: its name.
    :param base: folder of the model that training starts from, None when it starts from nothing.
    :param staging: an empty folder, which is removed at the end.
    :param rank: of this process, where several train together: all but the first, 0, only compute.
    """

    settings: Settings
    pool: Pool
    run: ModelRun
    collection: str
    dataset: Dataset
    arguments: TrainingArguments
    base: Path | None
    hardware: Hardware
    staging: Path
    checkpoints: Checkpoints
    ledger: Ledger
    interruption: Interruption
    progress: Progress
    rank: int = 0

    @property
    def bf16(self) -> bool:
        """Whether to compute in bf16."""
        return self.arguments.precision == "bf16" or (self.arguments.precision == "auto" and self.hardware.bf16)

    def pairs(self, split: str) -> list[Pair]:
        """The dataset's rows of ``train`` or ``dev``, in their order."""
        with self.pool.connection() as connection:
            return list(datasets.pairs(connection, self.dataset.id, split))


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished model in a folder of its own, as serving loads it.

    :param kind: ``embedder``, ``cross-encoder`` or ``forest``.
    :param fingerprint: as the class that serves it computes it.
    :param settings: fitted with it, such as {"rerank_weight": 0.4}.
    :param details: for the manifest, beside what :class:`include.training.resumable.Fit` says.
    """

    folder: Path
    kind: str
    fingerprint: str
    step: int
    settings: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

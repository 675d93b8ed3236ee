"""What our training loop costs: an embedder trained by the command's own code and by the bare sentence-transformers trainer.

    python -m bench.training [--steps 12] [--repeats 3] [--batch 16] [--checkpoint-steps 0]

Headings of docs/ are the questions, the passages below them the answers. Both get the same pairs in the same order, the same
arguments, loss and prompts, and take turns, each going first every other time. Counted is the loop: from its beginning to the
end of its last step. Ours also writes its row, watches for signals and refuses a loss that is no number. Prints JSON: pairs a
second of each, by the clock and by the processor's time, and the ratio. Takes about three minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.reranking import pairs
from include.config import Settings
from include.embedding import models
from include.progress import Silent
from include.store import embedded
from include.store.datasets import Pair
from include.store.pool import open_pool
from include.training.arguments import EmbedderArguments
from include.training.embedder import load_base, make_loss, prompts, training_columns
from include.training.train import train
from tests.training.tiny import BASE, plan

if TYPE_CHECKING:
    from collections.abc import Sequence


def main() -> None:
    """Run and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--checkpoint-steps", type=int, default=0)
    args = parser.parse_args()
    arguments = EmbedderArguments(
        max_steps=args.steps, batch_size=args.batch, checkpoint_seconds=0, checkpoint_steps=args.checkpoint_steps, log_steps=4
    )
    rows = pairs_of_docs()
    taken: dict[str, list[Seconds]] = {"ours": [], "bare": []}
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder))
        try:
            bare_training(rows, arguments.model_copy(update={"max_steps": 2}), folder)  # warm: imports, caches of the processor
            for n in range(args.repeats):
                for turn in ("ours", "bare") if n % 2 else ("bare", "ours"):
                    taken[turn].append(
                        bare_training(rows, arguments, folder)
                        if turn == "bare"
                        else our_training(settings, rows, arguments, f"bench/{n}")
                    )
        finally:
            embedded.stop(settings.home)
    print(json.dumps(report(taken, args.steps * args.batch) | {"steps": args.steps, "batch": args.batch, "pairs": len(rows)}))


def report(taken: dict[str, list[Seconds]], worked: int) -> dict[str, Any]:
    """Speeds and ratios, by the clock and by the processor's time, which other work on the machine hardly changes."""
    shown: dict[str, Any] = {}
    for number, clock in enumerate(Seconds._fields):
        ours, bare = ([one[number] for one in taken[name]] for name in ("ours", "bare"))
        shown[clock] = {
            "pairs_per_second": {n: round(worked / statistics.median(x), 2) for n, x in (("ours", ours), ("bare", bare))},
            "ratio_of_medians": round(statistics.median(bare) / statistics.median(ours), 3),
            "ratios": [round(b / o, 3) for o, b in zip(ours, bare, strict=True)],
            "ours": [round(x, 2) for x in ours],
            "bare": [round(x, 2) for x in bare],
        }
    return shown


def pairs_of_docs() -> list[Pair]:
    """Questions and passages of this project's documentation; no two alike."""
    headings, texts = pairs()
    return [
        Pair(f"{h} {n}", f"{n}.md", None, None, t) for n, (h, t) in enumerate(zip(headings, dict.fromkeys(texts), strict=False))
    ]


class Seconds(NamedTuple):
    """Of a loop, from its beginning to the end of its last step."""

    clock: float
    processor: float


class Clock(Silent):
    """Reads both clocks; as the progress of our training, and called by the bare one at the same moments."""

    def __init__(self) -> None:
        self._began = self._ended = Seconds(0.0, 0.0)

    def step(self, name: str, total: int | None) -> None:
        """The loop begins."""
        if name == "train":
            self._began = self._now()

    def advance(self, count: int) -> None:
        """A step ends."""
        self._ended = self._now()

    @property
    def taken(self) -> Seconds:
        """Between the two."""
        return Seconds(*(after - before for before, after in zip(self._began, self._ended, strict=True)))

    def _now(self) -> Seconds:
        return Seconds(time.monotonic(), time.process_time())


def our_training(settings: Settings, rows: Sequence[Pair], arguments: EmbedderArguments, key: str) -> Seconds:
    """A training by the command's own code."""
    plan(settings, key, rows=rows, base=BASE, **arguments.model_dump(exclude={"base"}))
    clock = Clock()
    with open_pool(settings) as pool:
        train(settings, pool, key, progress=clock)
    return clock.taken


def bare_training(rows: Sequence[Pair], arguments: EmbedderArguments, folder: str) -> Seconds:
    """sentence-transformers alone."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.training_args import BatchSamplers
    from transformers import PrinterCallback, TrainerCallback

    class Told(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            clock.step("train", None)

        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.advance(1)

    clock = Clock()
    columns, _ = training_columns(rows, arguments.hard_negatives, seed=arguments.seed)
    model = load_base(models.find_model(BASE))
    model.max_seq_length = arguments.max_length
    options = SentenceTransformerTrainingArguments(
        output_dir=f"{folder}/bare",
        max_steps=arguments.max_steps,
        per_device_train_batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        warmup_steps=arguments.warmup,
        weight_decay=arguments.weight_decay,
        logging_steps=arguments.log_steps,
        save_strategy="no",
        seed=arguments.seed,
        report_to=[],
        disable_tqdm=True,
        batch_sampler=BatchSamplers.NO_DUPLICATES,
        prompts=prompts(model, list(columns)),
    )
    trainer = SentenceTransformerTrainer(
        model=model,
        args=options,
        train_dataset=Dataset.from_dict(columns),
        loss=make_loss(model, arguments),
        callbacks=[Told()],
    )
    trainer.remove_callback(PrinterCallback)  # it prints to where the result goes
    trainer.train()
    return clock.taken


if __name__ == "__main__":
    main()

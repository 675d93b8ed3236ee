"""What our training loop costs: an embedder trained by the command's own code and by the bare sentence-transformers trainer.

    python -m bench.training [--steps 12] [--repeats 3] [--batch 16] [--checkpoint-steps 0]

Headings of docs/ are the questions, the passages below them the answers. Both get the same pairs in the same order, the same
arguments, loss and prompts, and take turns, each going first every other time. Counted is the loop: from its beginning to the
end of its last step. Ours also writes its row, watches for signals and refuses a loss that is no number; scores and checkpoints
are shown apart. Prints JSON: pairs a second of each, and the ratio. Takes about three minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.reranking import pairs
from include.config import Settings
from include.embedding import models
from include.store import embedded
from include.store.datasets import Pair
from include.training.arguments import EmbedderArguments
from include.training.embedder import load_base, make_loss, prompts, training_columns
from tests.training.tiny import BASE, plan, run

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
    ours, bare, aside = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder))
        try:
            bare_seconds(rows, arguments.model_copy(update={"max_steps": 2}), folder)  # warm: imports, caches of the processor
            for n in range(args.repeats):
                for turn in ("ours", "bare") if n % 2 else ("bare", "ours"):
                    if turn == "bare":
                        bare.append(bare_seconds(rows, arguments, folder))
                    else:
                        said = our_training(settings, rows, arguments, f"bench/{n}")
                        ours.append(said["seconds"] - said["seconds_aside"])
                        aside.append(said["seconds_aside"])
        finally:
            embedded.stop(settings.home)
    worked = args.steps * args.batch
    speed = {name: statistics.median(worked / one for one in taken) for name, taken in (("ours", ours), ("bare", bare))}
    ratios = [b / o for o, b in zip(ours, bare, strict=True)]
    print(
        json.dumps(
            {
                "pairs_per_second": {name: round(value, 2) for name, value in speed.items()},
                "ratio": round(statistics.median(ratios), 3),
                "ratios": [round(one, 3) for one in ratios],
                "seconds": {"ours": [round(x, 2) for x in ours], "bare": [round(x, 2) for x in bare]},
                "seconds_aside": [round(x, 2) for x in aside],
                "steps": args.steps,
                "batch": args.batch,
                "pairs": len(rows),
            }
        )
    )


def pairs_of_docs() -> list[Pair]:
    """Questions and passages of this project's documentation; no two alike."""
    headings, texts = pairs()
    return [
        Pair(f"{h} {n}", f"{n}.md", None, None, t) for n, (h, t) in enumerate(zip(headings, dict.fromkeys(texts), strict=False))
    ]


def our_training(settings: Settings, rows: Sequence[Pair], arguments: EmbedderArguments, key: str) -> dict[str, Any]:
    """What the manifest of a training by our own code says."""
    plan(settings, key, rows=rows, base=BASE, **arguments.model_dump(exclude={"base"}))
    return run(settings, key).training


def bare_seconds(rows: Sequence[Pair], arguments: EmbedderArguments, folder: str) -> float:
    """Seconds of the loop of sentence-transformers alone."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.training_args import BatchSamplers
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        began = ended = 0.0

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.monotonic()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.ended = time.monotonic()

    columns, _ = training_columns(rows, arguments.hard_negatives, seed=arguments.seed)
    model, clock = load_base(models.find_model(BASE)), Clock()
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
        model=model, args=options, train_dataset=Dataset.from_dict(columns), loss=make_loss(model, arguments), callbacks=[clock]
    )
    trainer.train()
    return clock.ended - clock.began


if __name__ == "__main__":
    main()

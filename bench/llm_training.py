"""What our training loop costs a fine-tuning: an adapter trained by the command's own code and by bare trl.

    python -m bench.llm_training [--steps 12] [--repeats 3] [--batch 4] [--method sft]

A Llama of random weights reads conversations of invented words. Both get the same conversations in the same order, the same
arguments, base and adapter, and take turns, each going first every other time. Counted is the loop: from its beginning to the
end of its last step. Ours also writes its row, watches for signals and refuses a loss that is no number. Prints JSON: tokens a
second of each, by the clock and by the processor's time, and the ratio. Takes about three minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from include.config import Settings
from include.store import embedded
from include.training.arguments import LlmArguments, checked
from include.training.llm.bases import find_base, load_base, load_tokenizer
from include.training.llm.examples import Examples, columns, read_examples
from include.training.llm.trainers import new_adapter
from tests.training.llm.tiny import make_base
from tests.training.llm.trainings import plan, rows, run

SHAPE = {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 6, "num_attention_heads": 8}


class Seconds(NamedTuple):
    """Of the loop."""

    clock: float
    processor: float


def main() -> None:
    """Run and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--method", choices=("sft", "dpo"), default="sft")
    args = parser.parse_args()
    asked = {
        "max_steps": args.steps, "batch_size": args.batch, "checkpoint_seconds": 0, "log_steps": 4, "method": args.method,
        "evaluate_steps": 100_000, "learning_rate": 2e-4,
    }  # fmt: skip
    data = [one for one in rows(train=64, dev=0, rejected=args.method == "dpo") if one.split == "train"]
    taken: dict[str, list[Seconds]] = {"ours": [], "bare": []}
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder) / "home")
        base = make_base(Path(folder) / "base", vocabulary=8192, **SHAPE)
        arguments = checked(
            LlmArguments,
            {"lora_rank": 4, "lora_alpha": 8, "max_length": 64, "warmup": 0.0, "gradient_checkpointing": False} | asked,
        )
        found = read_examples(
            load_tokenizer(find_base(str(base))), data, method=args.method, max_length=64, too_long="leave_out"
        )
        try:
            bare_training(base, found, arguments.model_copy(update={"max_steps": 2}), folder)  # imports, caches
            for n in range(args.repeats):
                for turn in ("ours", "bare") if n % 2 else ("bare", "ours"):
                    if turn == "bare":
                        taken[turn].append(bare_training(base, found, arguments, folder))
                    else:
                        taken[turn].append(our_training(settings, plan(settings, f"bench/{n}", base, data=data, **asked)))
        finally:
            embedded.stop(settings.home)
    tokens = found.tokens / len(found.kept) * args.steps * args.batch
    print(json.dumps(report(taken, tokens) | {"steps": args.steps, "batch": args.batch, "method": args.method}))


def report(taken: dict[str, list[Seconds]], tokens: float) -> dict[str, Any]:
    """Speeds and ratios, by the clock and by the processor's time, which other work on the machine hardly changes."""
    shown: dict[str, Any] = {}
    for number, clock in enumerate(Seconds._fields):
        ours, bare = ([one[number] for one in taken[name]] for name in ("ours", "bare"))
        shown[clock] = {
            "tokens_per_second": {n: round(tokens / statistics.median(x), 1) for n, x in (("ours", ours), ("bare", bare))},
            "ratio_of_medians": round(statistics.median(bare) / statistics.median(ours), 3),
            "ratios": [round(b / o, 3) for o, b in zip(ours, bare, strict=True)],
        }
    return shown


def our_training(settings: Settings, key: str) -> Seconds:
    """By the project's command, in this process; without development conversations the loop is all that is counted."""
    from include.training.watch import Watch

    begun: list[float] = []
    ended: list[float] = []
    begin, step = Watch.on_train_begin, Watch.on_step_end

    def on_train_begin(self: Watch, *given: Any, **more: Any) -> None:
        begin(self, *given, **more)
        begun.extend((time.perf_counter(), time.process_time()))

    def on_step_end(self: Watch, *given: Any, **more: Any) -> None:
        step(self, *given, **more)
        ended[:] = [time.perf_counter(), time.process_time()]

    Watch.on_train_begin, Watch.on_step_end = on_train_begin, on_step_end  # type: ignore[method-assign]
    try:
        run(settings, key)
    finally:
        Watch.on_train_begin, Watch.on_step_end = begin, step  # type: ignore[method-assign]
    return Seconds(ended[0] - begun[0], ended[1] - begun[1])


def bare_training(base: Path, found: Examples, arguments: LlmArguments, folder: str) -> Seconds:
    """By trl's trainer as its documentation has it."""
    from datasets import Dataset
    from transformers import PrinterCallback, TrainerCallback
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    begun: list[float] = []
    ended: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *given: Any, **more: Any) -> None:
            begun.extend((time.perf_counter(), time.process_time()))

        def on_step_end(self, *given: Any, **more: Any) -> None:
            ended[:] = [time.perf_counter(), time.process_time()]

    dpo = arguments.method == "dpo"
    trainer_class = type("Bare", (DPOTrainer,), {"_prepare_dataset": lambda self, data, *a, **k: data}) if dpo else SFTTrainer
    base_model = load_base(find_base(str(base)), dtype="float32")
    trainer = trainer_class(
        model=base_model,
        args=(DPOConfig if dpo else SFTConfig)(
            output_dir=f"{folder}/bare", max_steps=arguments.max_steps,
            per_device_train_batch_size=arguments.batch_size, use_cpu=True,
            learning_rate=arguments.highest_rate, logging_steps=arguments.log_steps, save_strategy="no", bf16=False,
            gradient_checkpointing=False, max_length=arguments.max_length, report_to=[], disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=Dataset.from_dict(columns(found.kept, arguments.method)),
        processing_class=load_tokenizer(find_base(str(base))),
        peft_config=new_adapter(base_model, arguments),
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Clock())
    trainer.train()
    return Seconds(ended[0] - begun[0], ended[1] - begun[1])


if __name__ == "__main__":
    main()

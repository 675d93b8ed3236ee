"""Measures the peak memory of LoRA trainings on this machine's CPU and compares it with the estimate made beforehand.

    python -m bench.llm_memory            # the table of docs/adapters.md, about ten minutes on two busy cores
    python -m bench.llm_memory --quick    # three small ones, as the tests do

Each training is trl's SFTTrainer (transformers' Trainer where all logits are made) on a Llama of random weights, two steps, in
a process of its own that was forked after the imports and has trained a tiny model before, so that what libraries load late is
not counted. Measured is how far the peak of the resident set (VmHWM, set back by /proc/self/clear_refs) is above what was
resident before the model was made. glibc is told to give freed tensors back at once; with --default-malloc it may keep them, as
it will in a process that is not told.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from typing import Any, Literal

from include.training.llm.estimate import RETURN_MEMORY, Workload, estimate
from include.training.llm.shapes import shape_of

SMALL = {
    "vocab_size": 8192,
    "hidden_size": 512,
    "intermediate_size": 1376,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
}
LARGER = {
    "vocab_size": 16384,
    "hidden_size": 640,
    "intermediate_size": 1728,
    "num_hidden_layers": 9,
    "num_attention_heads": 10,
    "num_key_value_heads": 10,
}
WORDS = {
    "vocab_size": 65536,
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}
ATTENTION = ("q_proj", "v_proj")
PLAIN = (
    "output_dir",
    "per_device_train_batch_size",
    "max_steps",
    "gradient_checkpointing",
    "save_strategy",
    "logging_strategy",
)


@dataclass(frozen=True, slots=True)
class Case:
    """A training: of which model, and how."""

    name: str
    model: dict[str, int]
    batch: int
    sequence: int
    checkpointing: bool
    targets: tuple[str, ...] = Workload(1, 1).targets
    rank: int = 16
    padded: bool = False
    head: Literal["fused", "full"] = "fused"

    def workload(self) -> Workload:
        """As the estimate takes it."""
        return Workload(
            self.batch, self.sequence, precision="fp32", rank=self.rank, targets=self.targets, checkpointing=self.checkpointing,
            padded=self.padded, device="cpu", head=self.head,
        )  # fmt: skip


QUICK = (
    Case("small, 2 x 128", SMALL, 2, 128, False),
    Case("small, 4 x 128, checkpointing", SMALL, 4, 128, True),
    Case("small, 2 x 128, padded, q and v", SMALL, 2, 128, False, ATTENTION, padded=True),
)
ALL = (
    *QUICK,
    Case("small, 4 x 256", SMALL, 4, 256, False),
    Case("small, 4 x 512, checkpointing", SMALL, 4, 512, True),
    Case("small, 2 x 512, padded", SMALL, 2, 512, False, padded=True),
    Case("small, 1 x 256, rank 128", SMALL, 1, 256, False, rank=128),
    Case("many words, 2 x 256", WORDS, 2, 256, False),
    Case("many words, 2 x 256, all logits", WORDS, 2, 256, False, head="full"),
    Case("many words, 2 x 256, checkpointing, all logits", WORDS, 2, 256, True, head="full"),
    Case("larger, 2 x 256", LARGER, 2, 256, False),
    Case("larger, 4 x 256, checkpointing", LARGER, 4, 256, True),
    Case("larger, 2 x 256, q and v", LARGER, 2, 256, False, ATTENTION),
)


def train(case: Case, steps: int, seed: int = 0) -> dict[str, Any]:
    """Train in this process; resident bytes before, and at the peak."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, LlamaConfig, PrinterCallback, Trainer, TrainingArguments
    from trl import SFTConfig, SFTTrainer

    from tests.training.llm.tiny import make_tokenizer

    torch.manual_seed(seed)
    lengths = [case.sequence - (case.sequence // 3 if case.padded and row % 2 else 0) for row in range(case.batch * steps)]
    rows = Dataset.from_list(
        [{"input_ids": torch.randint(0, case.model["vocab_size"], (length,)).tolist()} for length in lengths]
    )
    tokenizer = make_tokenizer()
    before = start_of_peak()
    model = AutoModelForCausalLM.from_config(LlamaConfig(**case.model, pad_token_id=0), dtype=torch.float32)
    parameters = sum(weight.numel() for weight in model.parameters())
    with tempfile.TemporaryDirectory() as place:
        arguments = SFTConfig(
            output_dir=place, per_device_train_batch_size=case.batch, max_steps=steps, max_length=case.sequence, bf16=False,
            gradient_checkpointing=case.checkpointing, save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True,
            logging_strategy="no", dataset_kwargs={"skip_prepare_dataset": True},
        )  # fmt: skip
        lora = LoraConfig(r=case.rank, target_modules=list(case.targets), task_type="CAUSAL_LM")
        if case.head == "fused":
            trainer = SFTTrainer(model, arguments, train_dataset=rows, processing_class=tokenizer, peft_config=lora)
        else:  # of equal lengths: nothing is padded
            plain = TrainingArguments(
                **{key: getattr(arguments, key) for key in PLAIN}, use_cpu=True, report_to=[], disable_tqdm=True
            )
            rows = rows.add_column("labels", rows["input_ids"])
            peft = get_peft_model(model, lora)
            peft.enable_input_require_grads()
            trainer = Trainer(peft, plain, train_dataset=rows)
        trainer.remove_callback(PrinterCallback)
        begun = time.monotonic()
        trainer.train()
    seconds = time.monotonic() - begun
    return {"before": before, "peak": resident("VmHWM"), "parameters": parameters, "seconds": seconds, "tokens": sum(lengths)}


def start_of_peak() -> int:
    """Set the peak back to what is resident now."""
    import gc

    gc.collect()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return resident("VmRSS")


def resident(key: str) -> int:
    """VmRSS or VmHWM of this process, bytes."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))


def measured(case: Case, steps: int) -> dict[str, Any]:
    """Train in a child, and compare."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(read)
            train(
                Case(
                    "warm up",
                    {**SMALL, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1},
                    1,
                    16,
                    case.checkpointing,
                ),
                1,
            )
            os.write(write, json.dumps(train(case, steps)).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    if not text:
        raise SystemExit(f"{case.name}: the training failed, see above")
    found, expected = json.loads(text), estimate(shape_of({**case.model, "model_type": "llama"}), case.workload())
    growth = found["peak"] - found["before"]
    return {
        "case": case.name, "parameters": found["parameters"], "measured": growth, "estimate": expected.peak,
        "ratio": round(expected.peak / growth, 3), "seconds": round(found["seconds"], 1), "tokens": found["tokens"],
    }  # fmt: skip


def main() -> None:
    """Print a table, or with --json a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--default-malloc", action="store_true")
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument("--steps", type=int, default=2)
    options = parser.parse_args()
    if not options.default_malloc and any(os.environ.get(key) != value for key, value in RETURN_MEMORY.items()):
        raise SystemExit(
            subprocess.call([sys.executable, "-m", "bench.llm_memory", *sys.argv[1:]], env={**os.environ, **RETURN_MEMORY})
        )
    warnings.filterwarnings("ignore")
    import trl.trainer.sft_trainer  # noqa: F401 (once, before the forks)

    for case in (case for case in (QUICK if options.quick else ALL) if options.only in case.name):
        row = measured(case, options.steps)
        if options.json:
            print(json.dumps(row), flush=True)
        else:
            mib = 2**20
            shown = f"{row['measured'] / mib:.0f} | {row['estimate'] / mib:.0f} | {row['ratio']:.2f}"
            print(f"| {row['case']} | {row['parameters'] / 1e6:.0f} M | {shown} |", flush=True)


if __name__ == "__main__":
    main()

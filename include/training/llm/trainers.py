"""trl's trainers as this project runs them: an adapter on a base, data that is in tokens already, and no model cards."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

from include.errors import BadConfiguration, BadData
from include.training.llm.adapters import read_adapter
from include.training.llm.bases import load_base
from include.training.llm.examples import columns
from include.training.resumable import resumable, trainer_arguments

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from include.training.arguments import LlmArguments
    from include.training.job import Job
    from include.training.llm.adapters import Adapter
    from include.training.llm.bases import Base
    from include.training.llm.examples import Example

ADAPTER = "default"  # peft's name of the adapter that is trained
HEADS = ("lm_head", "embed_tokens")


def make_trainer(job: Job, base: Base, tokenizer: Any, examples: Sequence[Example], start: Adapter | None) -> Any:
    """The trainer of an adapter; its model has a new one that changes nothing yet, or goes on from ``start``.

    :raises BadConfiguration: the base does not load, or lacks a module that is to be adapted.
    :raises BadData: the adapter to start from belongs to another base.
    """
    from transformers.utils import logging as transformers_logging

    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    transformers_logging.disable_progress_bar()
    arguments = cast("LlmArguments", job.arguments)
    model = load_base(base, dtype=_dtype(job, base), device=_device(job))
    model.config.use_cache = False
    options: dict[str, Any] = {"peft_config": None if start else new_adapter(model, arguments)}
    if start is not None:
        model = started(model, base, start)
    kind, made = _trainer_of(job, arguments)
    data = Dataset.from_dict(columns(examples, arguments.method))
    trainer = resumable(kind)(model=model, args=made, train_dataset=data, processing_class=tokenizer, **options)
    trainer.model.config.use_cache = False
    return trainer


def new_adapter(model: Any, arguments: LlmArguments) -> Any:
    """The configuration of a new adapter.

    :raises BadConfiguration: the model lacks one of its modules, or it is one that is not adapted here.
    """
    from peft import LoraConfig

    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    wrong = [name for name in arguments.target_modules if name not in names or name in HEADS]
    if wrong:
        why = f"{wrong[0]} is not adapted here" if wrong[0] in HEADS else f"the base has no module {wrong[0]}"
        fix = "Name projections such as q_proj and v_proj, or leave it empty for all of each layer"
        raise BadConfiguration("arguments of the llm: target_modules", why, fix)
    return LoraConfig(
        r=arguments.lora_rank,
        lora_alpha=arguments.lora_alpha,
        lora_dropout=arguments.lora_dropout,
        target_modules=list(arguments.target_modules) or "all-linear",
        task_type="CAUSAL_LM",
        bias="none",
    )


def started(model: Any, base: Base, start: Adapter) -> Any:
    """The base with an adapter that goes on being trained.

    :raises BadData: it belongs to another base, or to the same one in another precision.
    """
    from peft import PeftModel

    if start.base != base.fingerprint:
        same = start.base_digest == base.fingerprint.rpartition(":")[0]
        why = f"it was trained on the base as {start.quantisation}" if same else "it was trained on another base"
        fix = f"Set quantisation to {start.quantisation}" if same else "Name that base, or start with a new adapter"
        raise BadData(f"start_adapter {start.folder}", why, fix)
    return PeftModel.from_pretrained(model, str(start.folder), adapter_name=ADAPTER, is_trainable=True)


def start_of(folder: Path | None, fingerprint: str | None = None) -> Adapter | None:
    """The adapter to start from, after its hashes were compared, and its fingerprint where the registry knows one."""
    return None if folder is None else read_adapter(folder, fingerprint=fingerprint)


def _trainer_of(job: Job, arguments: LlmArguments) -> tuple[type, Any]:
    own: dict[str, Any] = {
        "learning_rate": arguments.highest_rate,
        "gradient_accumulation_steps": arguments.gradient_accumulation,
        "gradient_checkpointing": arguments.gradient_checkpointing,
        "include_num_input_tokens_seen": "non_padding",  # kept in checkpoints: the budget of tokens is of all attempts
        "max_length": arguments.max_length,
        "ddp_find_unused_parameters": False,
    }
    if arguments.method == "dpo":
        from trl.trainer.dpo_config import DPOConfig
        from trl.trainer.dpo_trainer import DPOTrainer

        return _quiet(DPOTrainer), trainer_arguments(job, DPOConfig, beta=arguments.beta, **own)
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    return _quiet(SFTTrainer), trainer_arguments(job, SFTConfig, packing=arguments.packing, **own)


def _quiet(kind: type) -> type:
    """Without what trl does of its own accord: a card a checkpoint; and reading again what is in tokens already."""

    def create_model_card(self: Any, *args: Any, **kwargs: Any) -> None:
        """None: nobody asked for one."""

    members: dict[str, Any] = {"create_model_card": create_model_card}
    if kind.__name__ == "DPOTrainer":
        members["_prepare_dataset"] = lambda self, dataset, *args, **kwargs: dataset
    logging.getLogger("trl").setLevel(logging.ERROR)
    return type(kind.__name__, (kind,), members)


def _dtype(job: Job, base: Base) -> str:
    """bf16 computes with weights in bf16, as the estimate says; files that are quantised say it themselves."""
    if base.stored:
        return "auto"
    return "bfloat16" if job.bf16 else "float32"


def _device(job: Job) -> str:
    import os

    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if job.hardware.gpus else "cpu"

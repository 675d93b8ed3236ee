"""Trains an adapter of a language model: by conversations (sft), or by pairs of a better and a worse answer (dpo).

The loss is of answers alone. The base is never changed: checkpoints hold the adapter, and so does what is saved in the end.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from include.errors import BadConfiguration
from include.registry.artifacts import local_model
from include.store import model_runs
from include.store.conversations import conversations
from include.training.job import Trained
from include.training.llm.adapters import CONFIG, read_adapter, write_manifest
from include.training.llm.bases import find_base, load_tokenizer
from include.training.llm.budget import Budget
from include.training.llm.examples import Examples, read_examples
from include.training.llm.heldout import HeldOutLoss, HeldOutPreference
from include.training.llm.processes import together
from include.training.llm.trainers import ADAPTER, make_trainer, start_of
from include.training.resumable import fit

if TYPE_CHECKING:
    from include.training.arguments import LlmArguments
    from include.training.job import Job
    from include.training.llm.adapters import Adapter
    from include.training.llm.bases import Base
    from include.training.llm.examples import Example
    from include.training.resumable import Fit

logger = logging.getLogger(__name__)

SELECT = "loss"  # on the development split: the lowest


def train_llm(job: Job) -> Trained:
    """Train an adapter in the job's staging.

    :raises BadData: nothing can be read, all of it is too long, or the adapter to start from belongs to another base.
    :raises BadConfiguration: the base has no chat template or does not load, or lacks a module that is to be adapted.
    """
    arguments = cast("LlmArguments", job.arguments)
    with together(job, arguments.gpus):
        base, start, trainer, done, train, dev = fitted(job)
    # 5. The adapter alone, with its manifest.
    adapter = save_adapter(trainer.model, base, job.staging / "model", start=start, method=arguments.method)
    details = done.details | _facts(job, trainer, done, train, dev)
    return Trained(adapter.folder, "lora", adapter.fingerprint, done.step, {}, details)


def fitted(job: Job) -> tuple[Base, Adapter | None, Any, Fit, Examples, Examples]:
    """A trained model: each process of a training does this, and the first goes on with it.

    :return: the base, the adapter that was started from, the trainer, how it went, and what was read.
    """
    arguments = cast("LlmArguments", job.arguments)
    # 1. What is read, before anything heavy is loaded.
    base = base_of(job)
    tokenizer = load_tokenizer(base)
    start = _start(job, arguments.start_adapter) if arguments.start_adapter else None
    train = examples_of(job, tokenizer, "train")
    dev = examples_of(job, tokenizer, "dev")
    # 2. Model and trainer.
    trainer = make_trainer(job, base, tokenizer, train.kept, start)
    # 3. The evaluator: the same before, during and after.
    evaluate = _evaluator(job, trainer.model, dev.kept[: arguments.dev_conversations])
    if evaluate is None:
        logger.warning("the dataset has no development conversations: the last step is kept, whatever it is worth")
    # 4. Train.
    done = fit(job, trainer, evaluate, select=SELECT, lowest=True, limit=Budget(job))
    return base, start, trainer, done, train, dev


def _start(job: Job, name: str) -> Adapter | None:
    with job.pool.connection() as connection:
        known = model_runs.fingerprint_of(connection, name)
    return start_of(_folder(job, name), known)


def base_of(job: Job) -> Base:
    """The base, by the name that was planned.

    :raises BadConfiguration: a training of an adapter starts from a base.
    """
    if job.base is None:
        raise BadConfiguration(f"training {job.run.run_key}", "it has no base", "Name a base model")
    quantisation = cast("LlmArguments", job.arguments).quantisation
    return replace(find_base(str(job.base), quantisation=quantisation), name=job.run.base)


def examples_of(job: Job, tokenizer: Any, split: str) -> Examples:
    """What a split of the job's dataset holds, in tokens; of development none may be there.

    :raises BadData: it cannot be read, or nothing of the training split is short enough.
    """
    arguments = cast("LlmArguments", job.arguments)
    with job.pool.connection() as connection:
        rows = list(conversations(connection, job.dataset.id, split))
    if split == "dev" and (not rows or (arguments.method == "dpo" and all(row.rejected is None for row in rows))):
        return Examples(())
    found = read_examples(
        tokenizer, rows, method=arguments.method, max_length=arguments.max_length, too_long=arguments.too_long, split=split,
        day=job.run.created_at,
    )  # fmt: skip
    if found.left_out or found.truncated:
        logger.warning("%s: of %d conversations %d are over %d tokens and left out, %d are cut", split, len(rows),
                       found.left_out, arguments.max_length, found.truncated)  # fmt: skip
    return found


def save_adapter(model: Any, base: Base, folder: Path, *, start: Adapter | None = None, **facts: Any) -> Adapter:
    """Write an adapter with its manifest; the same weights give the same files, on whatever machine they were trained.

    :param start: the adapter that it went on from.
    :param facts: what its manifest says besides.
    """
    model.save_pretrained(folder, selected_adapters=[ADAPTER])
    (folder / "README.md").unlink(missing_ok=True)  # a card that nobody asked for
    file = folder / CONFIG
    config = json.loads(file.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base.name  # peft writes the folder that it was loaded from
    if isinstance(config.get("target_modules"), list):
        config["target_modules"] = sorted(config["target_modules"])  # it comes from a set
    file.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
    went_on = {"start_adapter": start.fingerprint} if start else {}
    write_manifest(folder, base, **facts, **went_on)
    return read_adapter(folder)


def _folder(job: Job, name: str) -> Path:
    return Path(local_model(name, job.settings))


def _evaluator(job: Job, model: Any, examples: tuple[Example, ...]) -> HeldOutLoss | HeldOutPreference | None:
    if not examples:
        return None
    arguments = cast("LlmArguments", job.arguments)
    if arguments.method == "dpo":
        return HeldOutPreference(job, model, examples, beta=arguments.beta)
    return HeldOutLoss(job, model, examples)


def _facts(job: Job, trainer: Any, done: Fit, train: Examples, dev: Examples) -> dict[str, Any]:
    """For the manifest: what was read of the data, and how fast."""
    seconds = max(1e-6, done.details["seconds"] - done.details["seconds_aside"])
    read = int(trainer.state.num_input_tokens_seen)
    rows = len(trainer.train_dataset)
    size = cast("LlmArguments", job.arguments).max_length
    return {
        "conversations": len(train.kept),
        "left_out": train.left_out,
        "truncated": train.truncated,
        "longest": train.longest,
        "rows": rows,
        "packed": round(train.tokens / (rows * size), 3) if rows < len(train.kept) else None,
        "dev_conversations": min(len(dev.kept), cast("LlmArguments", job.arguments).dev_conversations),
        "dev_left_out": dev.left_out,
        "tokens": read,
        "tokens_per_second": round(read / seconds, 1),
        "parameters": sum(weight.numel() for weight in trainer.model.parameters()),
        "trainable": sum(weight.numel() for weight in trainer.model.parameters() if weight.requires_grad),
    }

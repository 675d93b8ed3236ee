"""Runs a transformers trainer so that it may be killed at any moment: the same loop, with checkpoints and scores.

Nothing here knows what is trained. A family makes its trainer, of a class that :func:`resumable` returns, and an evaluator.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.errors import RagworksError, Transient
from include.training import weights
from include.training.hardware import peak_memory_gb
from include.training.interruption import Interrupted
from include.training.memory import Memory
from include.training.watch import BEST, Watch, link

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from include.training.job import Job
    from include.training.watch import Evaluator

logger = logging.getLogger(__name__)

_CHATTY = (
    "PrinterCallback",
    "ProgressCallback",
    "ModelCardCallback",
)  # they print, or read the data for a card nobody asked for


@dataclass(frozen=True, slots=True)
class Fit:
    """A trained model, which holds the weights of its best step, or of the last one without development questions.

    :param step: that the training came to; ``best`` are the scores and the step of the weights that the model now has.
    :param details: for the manifest: curves, scores, seconds.
    """

    step: int
    best: dict[str, float] | None
    details: dict[str, Any]


def fit(
    job: Job,
    trainer: Any,
    evaluate: Evaluator | None,
    *,
    select: str,
    lowest: bool = False,
    limit: Callable[[Any], str] | None = None,
) -> Fit:
    """Train, from the newest checkpoint if there is one.

    :param trainer: of a class from :func:`resumable`, its arguments from :func:`trainer_arguments`; its model is the base.
    :param evaluate: scores the trainer's model; None: there are no development questions, the last step counts.
    :param select: the measure that says which step is best: the highest, or with ``lowest`` the lowest.
    :param limit: asked after each step with the trainer's state: why training ends there in order, or an empty text.
    :raises Interrupted: somebody asked to stop; a checkpoint is saved.
    :raises Transient: the store or the database went away; the last checkpoint is kept.
    :raises Terminal: the loss is no number.
    """
    memory, resumed = _newest(job, evaluate)
    if evaluate is not None and memory.baseline is None:  # the model is still the base
        memory.baseline = {name: float(value) for name, value in evaluate().items()}
        logger.info("before training: %s", ", ".join(f"{name} {value:.4f}" for name, value in memory.baseline.items()))
        job.ledger.note({"baseline": memory.baseline})
    watch = _watch(job, memory, evaluate, select, lowest=lowest, limit=limit)
    _quieten(trainer)
    trainer.add_callback(watch)
    trainer.aside = watch.aside
    if resumed and (memory.finished or memory.resumed[-1] >= memory.planned):  # a trainer would do one step too many
        trainer.state = trainer.state.load_from_json(str(resumed / "trainer_state.json"))
        weights.load(trainer.model, resumed)
        watch.make_up(trainer.state, trainer.model)
    else:
        job.interruption.check()
        trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    if job.rank:  # the first process says how it ended
        return Fit(trainer.state.global_step, memory.best, {})
    if watch.stopped is not None:
        raise watch.stopped
    if not memory.finished:
        step = trainer.state.global_step
        raise Interrupted(
            f"training {job.run.run_key} was interrupted at step {step} of {memory.planned}", job.interruption.requested,
            "Run it again: it goes on at that step",
        )  # fmt: skip
    details = watch.so_far(trainer.state) | _speed(job, memory, trainer.state.global_step)
    if memory.best is not None:
        weights.load(trainer.model, job.staging / BEST)
    return Fit(trainer.state.global_step, memory.best, details)


def trainer_arguments(job: Job, arguments_class: Any, **own: Any) -> Any:
    """The arguments of a trainer: what all have in common, and a family's own."""
    arguments = job.arguments
    common = {
        "output_dir": str(job.staging / "trainer"),
        "num_train_epochs": arguments.epochs,
        "max_steps": arguments.max_steps or -1,
        "per_device_train_batch_size": arguments.batch_size,
        "learning_rate": arguments.learning_rate,
        "warmup_steps": arguments.warmup,
        "weight_decay": arguments.weight_decay,
        "logging_steps": arguments.log_steps,
        "logging_nan_inf_filter": False,  # it would report the mean of the steps before
        "save_strategy": "no",  # Watch says when
        "bf16": job.bf16,
        "use_cpu": job.hardware.device == "cpu",
        "seed": arguments.seed,
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": job.hardware.gpus > 0,
    }
    made = arguments_class(**common | own)
    if made.n_gpu > 1:  # of one process
        logger.warning("%d GPUs are here, one is used", made.n_gpu)
        made._n_gpu = 1  # DataParallel would split the batch, and with it the negatives
    return made


def resumable(trainer_class: type) -> Any:
    """A trainer whose checkpoints hold what training changes, and whose failures to write one are said in words."""
    return type(f"Resumable{trainer_class.__name__}", (_Resumable, trainer_class), {})


class _Resumable:
    """Goes before a transformers Trainer: a folder of a checkpoint does not depend on where the base lies on this machine."""

    model: Any
    state: Any
    args: Any
    aside: Callable[[], AbstractContextManager[None]] = staticmethod(nullcontext)

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """None: sentence-transformers would read all data for a card that nobody asked for."""

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        del state_dict
        if self.args.should_save:  # of several processes the first: all would write one file
            weights.save(self.model, Path(output_dir or self.args.output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        weights.load(model or self.model, Path(resume_from_checkpoint))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        try:
            with self.aside():
                super()._save_checkpoint(model, trial)  # type: ignore[misc]
        except RagworksError:
            raise
        except Exception as error:  # torch and safetensors each have their own for a full disk
            reason = " ".join(f"{type(error).__name__} {error}".split())[:300]
            raise Transient(
                f"the checkpoint of step {self.state.global_step} cannot be written to {self.args.output_dir}", reason,
                "Make room there, then run it again: it goes on from the checkpoint before",
            ) from error  # fmt: skip


def _newest(job: Job, evaluate: Evaluator | None) -> tuple[Memory, Path | None]:
    found = job.checkpoints.newest(job.staging / (f"resume-{job.rank}" if job.rank else "resume"))
    if found is None:
        return Memory(questions=evaluate.fingerprint if evaluate else ""), None
    step, folder = found
    memory = Memory.load(folder)
    logger.info("going on at step %d", step)
    memory.resumed.append(step)
    if (folder / BEST).is_dir() and not job.rank:
        (job.staging / BEST).mkdir()
        link(folder / BEST / weights.WEIGHTS, job.staging / BEST / weights.WEIGHTS)
    questions = evaluate.fingerprint if evaluate else ""
    if memory.questions != questions:
        logger.warning("the collection changed since step %d: development scores begin anew", step)
        memory.forget_scores()
        memory.questions = questions
    return memory, folder


def _watch(job: Job, memory: Memory, evaluate: Evaluator | None, select: str, **more: Any) -> Any:
    from transformers import TrainerCallback

    return type("WatchCallback", (Watch, TrainerCallback), {})(job, memory, evaluate, select, **more)


def _quieten(trainer: Any) -> None:
    for callback in list(trainer.callback_handler.callbacks):
        if type(callback).__name__.endswith(_CHATTY):
            trainer.remove_callback(type(callback))


def _speed(job: Job, memory: Memory, step: int) -> dict[str, Any]:
    seconds = max(1e-6, memory.seconds - memory.aside)
    speed: dict[str, Any] = {"pairs_per_second": round(step * job.arguments.step_size / seconds, 2)}
    peak = peak_memory_gb()
    return speed | ({} if peak is None else {"gpu_memory_gb": peak})

"""What happens between two steps of a training: scores, checkpoints, the row, and the end when somebody asks for it.

Everything is decided at the end of a step and done in the trainer's own order: first the loss is logged, so that no
checkpoint is saved of a model whose loss is not a number; then the model is scored; then it is saved.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from include.errors import Terminal, Transient
from include.training import weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from include.training.job import Job
    from include.training.memory import Memory

logger = logging.getLogger(__name__)

BEST = "best"  # folder of the weights that scored best, in the staging and in each checkpoint
POINTS = 1000  # of a loss curve, at most


class Evaluator(Protocol):
    """Scores the model as it is now, the same way each time."""

    @property
    def fingerprint(self) -> str:
        """Of the questions and passages: scores with another one cannot be compared."""
        ...

    def __call__(self) -> Mapping[str, float]:
        """Measures by name.

        :raises Interrupted: somebody asked to stop meanwhile.
        """
        ...


class Watch:
    """The events of a transformers Trainer; see :func:`include.training.resumable.fit`.

    :param select: the measure that says which step is best: the highest, or with ``lowest`` the lowest.
    :param limit: asked after each step with the trainer's state; what it says ends the training in order.
    :param stopped: what ended the training before its time: an interruption, or the database that went away.
    """

    def __init__(
        self,
        job: Job,
        memory: Memory,
        evaluate: Evaluator | None,
        select: str,
        *,
        lowest: bool = False,
        limit: Callable[[Any], str] | None = None,
    ) -> None:
        self.stopped: Transient | None = None
        self._job, self._memory, self._evaluate, self._select = job, memory, evaluate, select
        self._sign, self._limit = -1 if lowest else 1, limit
        self._steps_in_epoch = 1
        self._began = self._saved = time.monotonic()
        self._before = (memory.seconds, 0)  # seconds, and the step that this attempt began with

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """The trainer knows its steps; a score that an interruption prevented is made up for."""
        del control
        self._steps_in_epoch = max(1, math.ceil(len(more["train_dataloader"]) / args.gradient_accumulation_steps))
        self._memory.planned = state.max_steps
        self._began = self._saved = time.monotonic()
        self._before = (self._memory.seconds, state.global_step)
        if state.global_step and self._score_due(state):
            self.make_up(state, more["model"])
        self._job.progress.step("train", state.max_steps)
        self._job.progress.advance(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Decide what is due; each of these is logged first."""
        del args, more
        self._job.progress.advance(1)
        self._memory.seconds = self._before[0] + time.monotonic() - self._began
        limit = self._job.arguments.max_seconds
        if limit and self._memory.seconds >= limit and state.global_step < state.max_steps:
            self._memory.finished = f"after {self._memory.seconds:.0f} of at most {limit} s"
        elif state.global_step >= state.max_steps:
            self._memory.finished = "all steps"
        elif self._limit is not None:
            self._memory.finished = self._limit(state)
        if self._job.interruption.requested or self._memory.finished:
            control.should_training_stop = True
        if control.should_training_stop or self._checkpoint_due(state) or self._score_due(state):
            control.should_log = control.should_save = True
        self._agree(control)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float], **more: Any) -> None:
        """Refuse a loss that is no number; score what is due; write it down."""
        del args
        if "loss" not in logs:  # the summary at the end
            return
        self._check_numbers(state, logs)
        pairs = (state.global_step - self._before[1]) * self._job.arguments.step_size
        speed = pairs / max(1e-6, time.monotonic() - self._began)
        logger.info("step %d of %d: loss %.4f, %.1f a second", state.global_step, state.max_steps, logs["loss"], speed)
        try:
            if self._score_due(state):
                self._job.interruption.check()
                self._score(state, more["model"])
                self._job.progress.step("train", state.max_steps)
                self._job.progress.advance(state.global_step)
            self._job.ledger.note(step=state.global_step)
        except Transient as error:  # an interruption, or the database is away: what was learned is saved first
            self.stopped = error
            self._memory.finished = ""
            control.should_save = control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Hand the trainer's checkpoint to the store, with the best weights so far."""
        del more
        if self._together and self.stopped is None:  # each process has written its random numbers
            self._barrier()
        if self._job.rank:
            return
        with self.aside():
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle that nothing needs
            best = self._job.staging / BEST / weights.WEIGHTS
            if best.exists():
                (folder / BEST).mkdir(exist_ok=True)
                link(best, folder / BEST / weights.WEIGHTS)
            self._memory.save(folder)
            facts = {"run_key": self._job.run.run_key, "base_fingerprint": self._job.run.base_fingerprint}
            saved = self._job.checkpoints.save(folder, state.global_step, facts)
        self._saved = time.monotonic()
        try:
            self._job.ledger.note(self.so_far(state), step=state.global_step, checkpoint=saved)
        except Transient as error:
            self.stopped = self.stopped or error
            control.should_training_stop = True

    def make_up(self, state: Any, model: Any) -> None:
        """The score of a step that an interruption prevented."""
        self._memory.finished = self._memory.finished or ("all steps" if state.global_step >= self._memory.planned else "")
        if not self._memory.scored_at(state.global_step):
            self._score(state, model)

    def so_far(self, state: Any) -> dict[str, Any]:
        """What the manifest says of the training up to now."""
        loss = [
            {"step": one["step"], "loss": round(one["loss"], 5), "learning_rate": one["learning_rate"]}
            for one in state.log_history
            if "loss" in one
        ]
        memory = self._memory
        return {
            "baseline": memory.baseline,
            "dev_curve": memory.dev,
            "best": memory.best,
            "loss": loss[:: 1 + len(loss) // POINTS],
            "planned_steps": memory.planned,
            "finished": memory.finished,
            "seconds": round(memory.seconds, 1),
            "seconds_aside": round(memory.aside, 1),
            "resumed_from": memory.resumed,
        }

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Count the time of a block as not spent on steps."""
        started = time.monotonic()
        try:
            yield
        finally:
            self._memory.aside += time.monotonic() - started
            self._memory.seconds = self._before[0] + time.monotonic() - self._began

    @property
    def _together(self) -> bool:
        """Whether several processes train."""
        from torch import distributed

        return bool(distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1)

    def _agree(self, control: Any) -> None:
        """What is due is decided by the first process: clocks and signals differ, and all must do the same."""
        if not self._together:
            return
        from torch import distributed

        said = [control.should_training_stop, control.should_log, control.should_save, self._memory.finished]
        distributed.broadcast_object_list(said, src=0)
        control.should_training_stop, control.should_log, control.should_save, self._memory.finished = said

    def _barrier(self) -> None:
        from torch import distributed

        distributed.barrier()

    def _check_numbers(self, state: Any, logs: Mapping[str, float]) -> None:
        for name in ("loss", "grad_norm"):
            value = float(logs.get(name, 0.0))
            if not math.isfinite(value):
                known = self._job.checkpoints.steps()
                kept = f"the checkpoint of step {known[-1]} is kept" if known else "there is no checkpoint yet"
                raise Terminal(
                    f"the {name} is {value} at step {state.global_step}",
                    f"the training has come apart; {kept}",
                    "Lower learning_rate, or set precision to fp32, and train under another key",
                )

    def _checkpoint_due(self, state: Any) -> bool:
        arguments = self._job.arguments
        by_steps = arguments.checkpoint_steps and state.global_step % arguments.checkpoint_steps == 0
        by_time = arguments.checkpoint_seconds and time.monotonic() - self._saved >= arguments.checkpoint_seconds
        return bool(by_steps or by_time)

    def _score_due(self, state: Any) -> bool:
        if self._evaluate is None:
            return False
        every = self._job.arguments.evaluate_steps or self._steps_in_epoch
        return state.global_step % every == 0 or bool(self._memory.finished)

    def _score(self, state: Any, model: Any) -> None:
        if self._evaluate is None:
            return
        with self.aside():
            scores = {name: float(value) for name, value in self._evaluate().items()}
        one = {"step": state.global_step, "epoch": round(float(state.epoch or 0), 3), **scores}
        self._memory.dev.append(one)
        logger.info("step %d: %s", state.global_step, ", ".join(f"{name} {value:.4f}" for name, value in scores.items()))
        best = self._memory.best
        if best is None or self._sign * scores[self._select] > self._sign * best[self._select]:
            self._memory.best = one
            if not self._job.rank:
                weights.save(model, self._job.staging / BEST)


def link(file: Path, target: Path) -> None:
    """Give a file a second name, or copy it where there can be none."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)

"""What the end of a training command means: done, try again, or change something. The training's row has the last word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.errors import RagworksError, ServiceUnavailable, Terminal, Transient

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from include.store.model_runs import ModelRun

# Whether a step of a training need not be done again.
DONE: dict[str, Callable[[ModelRun], bool]] = {
    "baseline": lambda run: run.baseline is not None,
    "train": lambda run: run.state in ("trained", "evaluated", "accepted", "refused"),
    "merge": lambda run: "merge" in run.training,
    "evaluate": lambda run: run.state in ("evaluated", "accepted", "refused"),
}
KILLED = (137, 143)  # 128 + SIGKILL, 128 + SIGTERM: it could not save anything first
RESUMES = "The retry goes on from the last checkpoint"


class NoNode(Transient):
    """No profile found a node.

    :param profiles: the names of all that were tried.
    """

    def __init__(self, what: str, why: str, fix: str, profiles: Sequence[str]) -> None:
        super().__init__(what, why, fix)
        self.profiles = list(profiles)


@dataclass(frozen=True, slots=True)
class End:
    """How a command ended.

    :param where: the pod or process, for messages.
    :param exit_code: 128 + signal when it was killed; None: nobody saw it, the pod was gone.
    :param reason: of container and pod in Kubernetes' words (OOMKilled, Evicted, DeadlineExceeded, …).
    :param message: its last lines.
    :param disrupted: the cluster took it away: preempted, drained, evicted, node lost.
    """

    where: str
    exit_code: int | None
    reason: str = ""
    message: str = ""
    disrupted: bool = False


def failure(end: End, run: ModelRun, step: str) -> RagworksError | None:
    """The error that a step ended with; None: it is done.

    :param run: the training's row, read after the end.
    :param step: one of :data:`DONE`.
    """
    done = DONE[step](run)
    if end.exit_code == 0 or (end.exit_code is None and done):
        return None if done else _not_done(end, run, step)
    told = (run.error if run.state != "planned" else "") or end.message.strip()  # until it begins: why an earlier pod did not
    if end.exit_code == Terminal.exit_code:
        return Terminal(f"{end.where} ended with exit code 65", told or "its log says why", "Correct that, then run it again")
    if end.exit_code == ServiceUnavailable.exit_code:
        why = told or "a service that it needs does not answer"
        return ServiceUnavailable(f"{end.where} ended with exit code 69", why, "The retry asks again")
    if end.reason == "OOMKilled":
        fix = "Give the profile more memory (docs/gpu-tasks.md), or train with a smaller batch"
        return Terminal(f"{end.where} was killed at step {run.step}", "it needed more memory than its limit", fix)
    if end.exit_code is None or end.disrupted or end.exit_code in (Transient.exit_code, *KILLED):
        return Transient(f"{end.where} was stopped at step {run.step}", _stopped(end, told), RESUMES)
    return RagworksError(f"{end.where} ended with exit code {end.exit_code}", told or end.reason, "Its log has the traceback")


def _not_done(end: End, run: ModelRun, step: str) -> RagworksError:
    """It says that it succeeded; its row does not."""
    what = f"{end.where} ended with exit code 0, but {step} is not done: training {run.run_key!r} is {run.state}"
    if run.state == "failed":
        return Terminal(what, run.error or "", "Correct that, then run it again")
    return Transient(what, "something else than the training command ran, or its row was lost", RESUMES)


def _stopped(end: End, told: str) -> str:
    if end.exit_code is None:
        known = ": ".join(part for part in (end.reason, end.message.strip()) if part)
        return known or "the pod is gone: preempted, its node lost, or deleted"
    how = {137: "killed", 143: "terminated before it could save", Transient.exit_code: "interrupted"}.get(
        end.exit_code, f"exit code {end.exit_code}"
    )
    by = f"; the cluster says {end.reason}" if end.reason and end.reason not in ("Error", "Completed") else ""
    return f"{how}{by}" + (f"; {told}" if told else "")

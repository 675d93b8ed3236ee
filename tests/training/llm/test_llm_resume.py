"""The training of a language model that is killed or stopped goes on where it was, and comes to the same adapter."""

from __future__ import annotations

import os
import resource
import signal
import sys
import traceback
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from safetensors.numpy import load_file

from include.registry.artifacts import local_model
from include.store.pool import open_pool
from include.training.checkpoints import Checkpoints
from include.training.interruption import Interrupted
from include.training.train import train
from tests.training.llm.trainings import plan, row, rows, run, tiny_base
from tests.training.test_resume import StopAt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from include.config import Settings
    from include.store.model_runs import ModelRun

TOLERANCE = 1e-6  # of a weight and of a loss; on one machine with as many threads they are usually equal to the last bit
STEPS = {"max_steps": 8, "checkpoint_steps": 3, "lora_dropout": 0.1}  # 20 conversations in batches of 4: five steps an epoch


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    torch.set_num_threads(1)  # a fork of a process with a pool of threads would wait for them
    return tiny_base(tmp_path_factory.getbasetemp() / "llm-base")


@dataclass(frozen=True)
class Came:
    """What a training came to."""

    step: int
    weights: dict[str, NDArray[np.float32]]
    losses: list[float]
    scores: list[float]


def came_to(settings: Settings, done: ModelRun) -> Came:
    weights = load_file(Path(local_model(done.artifact or "", settings)) / "adapter_model.safetensors")
    told = done.training
    return Came(done.step, weights, [one["loss"] for one in told["loss"]], [one["loss"] for one in told["dev_curve"]])


def assert_same(one: Came, other: Came) -> None:
    assert one.step == other.step
    assert one.weights.keys() == other.weights.keys()
    assert max(abs(one.weights[name] - other.weights[name]).max() for name in one.weights) <= TOLERANCE
    assert one.losses == pytest.approx(other.losses, abs=2e-5)  # the curve is kept with five digits
    assert one.scores == pytest.approx(other.scores, abs=TOLERANCE)


_uninterrupted: dict[str, Came] = {}


def uninterrupted(settings: Settings, base: Path, method: str) -> Came:
    """Of ``STEPS``, in one go, once for all tests."""
    if method not in _uninterrupted:
        _uninterrupted[method] = came_to(settings, run(settings, plan(settings, "whole", base, method=method, **STEPS)))
    return _uninterrupted[method]


def in_a_child(work: Callable[[], object]) -> int:
    """Run something in a fork of this process, which has all libraries already; how it ended, as ``waitpid`` says it."""
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException:
            traceback.print_exc(file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def train_until(settings: Settings, key: str, phase: str, count: int, what: Callable[[], object]) -> None:
    with open_pool(settings) as pool:
        train(settings, pool, key, progress=StopAt(phase, count, what))


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_in_publishing(settings: Settings, key: str) -> None:
    """Killed while the second checkpoint is published: the folder is there, its manifest is not."""
    publish, published = Checkpoints.save, []

    def save(self: Checkpoints, folder: Path, step: int, facts: Mapping[str, Any]) -> str:
        published.append(step)
        if len(published) == 2:
            target = self.store.place(f"{self.where}/step-{step}")
            assert target is not None
            folder.rename(target)
            kill()
        return publish(self, folder, step, facts)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Checkpoints, "save", save)
        run(settings, key)


@pytest.mark.parametrize(
    ("moment", "resumed"),
    [
        # Between two checkpoints: two steps are done again.
        pytest.param(("train", 5), [3], marks=pytest.mark.thorough),
        # At the end of an epoch, while it is scored: counted from the baseline's.
        pytest.param(("score conversations", 2), [3], marks=pytest.mark.thorough),
        (None, [3]),  # while a checkpoint is written
    ],
    ids=["in a step", "in scoring", "in a checkpoint"],
)
def test_kill_9_at_three_moments(settings: Settings, base: Path, moment: tuple[str, int] | None, resumed: list[int]) -> None:
    whole = uninterrupted(settings, base, "sft")
    plan(settings, "killed", base, **STEPS)
    work = partial(killed_in_publishing, settings, "killed")
    if moment is not None:
        work = partial(train_until, settings, "killed", *moment, kill)
    assert os.WTERMSIG(in_a_child(work)) == signal.SIGKILL
    left = row(settings, "killed")
    assert (left.state, left.attempts, left.artifact) == ("training", 1, None)
    done = run(settings, "killed")
    assert (done.state, done.attempts, done.training["resumed_from"]) == ("trained", 2, resumed)
    assert_same(whole, came_to(settings, done))


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_sigterm(settings: Settings, base: Path, method: str) -> None:
    whole = uninterrupted(settings, base, method)
    plan(settings, "stopped", base, method=method, **STEPS)
    with open_pool(settings) as pool, pytest.raises(Interrupted, match="interrupted at step 4 of 8"):
        train(settings, pool, "stopped", progress=StopAt("train", 4))
    assert row(settings, "stopped").state == "interrupted"
    assert Checkpoints(settings, "stopped").steps() == [3, 4]
    done = run(settings, "stopped")
    assert (done.attempts, done.training["resumed_from"]) == (2, [4])
    assert_same(whole, came_to(settings, done))
    assert done.training["tokens"] > 0


def test_a_full_disk_keeps_the_checkpoint_before(settings: Settings, base: Path) -> None:
    """A limit of file sizes is what a full disk looks like to a process."""
    plan(settings, "full", base, lora_rank=32, **{**STEPS, "checkpoint_steps": 4})
    with open_pool(settings) as pool, pytest.raises(Interrupted):
        train(settings, pool, "full", progress=StopAt("train", 4))

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        run(settings, "full")

    assert os.WEXITSTATUS(in_a_child(limited)) == 1
    left = row(settings, "full")
    assert left.state == "interrupted"
    assert "cannot be written" in (left.error or "")
    assert "Make room there" in (left.error or "")
    assert Checkpoints(settings, "full").steps() == [4]
    done = run(settings, "full")
    assert (done.state, done.training["resumed_from"]) == ("trained", [4])


def test_two_processes_train_together(settings: Settings, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the processor, by gloo; on GPUs the same code, by NCCL. A checkpoint of two is gone on from by two."""
    monkeypatch.setenv("RAGWORKS_HOME", str(settings.home))
    monkeypatch.setenv("RAGWORKS_DATABASE_URL", settings.database_url or "")
    plan(settings, "two", base, data=rows(train=24), batch_size=4, gpus=2, max_steps=6, checkpoint_steps=3)
    with open_pool(settings) as pool, pytest.raises(Interrupted, match="interrupted at step 4 of 6"):
        train(settings, pool, "two", progress=StopAt("train", 4))
    done = run(settings, "two")
    assert (done.state, done.training["resumed_from"]) == ("trained", [4])
    assert done.training["tokens"] == 2 * done.training["conversations"] * done.training["longest"]  # 6 steps of 8: twice all
    assert done.training["best"]["loss"] < 0.9 * done.training["baseline"]["loss"]

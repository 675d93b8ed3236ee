"""A training that is killed or stopped goes on where it was, and comes to the same model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from safetensors.numpy import load_file

from include.errors import BadConfiguration, ServiceUnavailable, Transient
from include.progress import Silent
from include.registry.stores import open_store
from include.store import training_locks
from include.store.pool import open_pool
from include.training.checkpoints import Checkpoints
from include.training.interruption import Interrupted
from include.training.train import train
from tests.support import query
from tests.training.tiny import command, folder_of, pairs, plan, row, run, stop_after

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from include.config import Settings
    from include.store.model_runs import ModelRun

TOLERANCE = 1e-5  # of a weight; on one machine with as many threads they are usually equal to the last bit
STEPS = {"max_steps": 8, "checkpoint_steps": 2}  # 20 pairs in batches of 8: three steps an epoch, the end in the third


def send_sigterm() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


class StopAt(Silent):
    """Does something at a moment of the training: sends SIGTERM to this process."""

    def __init__(self, phase: str, count: int, what: Callable[[], object] = send_sigterm) -> None:
        self._phase, self._count, self._what = phase, count, what
        self._now, self._done = "", 0

    def step(self, name: str, total: int | None) -> None:
        self._now = name
        if name == "train" == self._phase:
            self._done = 0  # a bar is drawn anew after each score, and filled up to where it was
        elif name == self._phase:
            self._count_to(self._done + 1)

    def advance(self, count: int) -> None:
        if self._now == self._phase == "train":
            self._count_to(self._done + count)

    def _count_to(self, done: int) -> None:
        self._done = done
        if done == self._count:
            self._count = 0  # once
            self._what()


def models_of(settings: Settings) -> list[str]:
    return open_store(settings).names("models/embedder/handbook")


@dataclass(frozen=True)
class Came:
    """What a training came to."""

    step: int
    weights: dict[str, NDArray[np.float32]]
    scores: list[float]


def came_to(settings: Settings, done: ModelRun) -> Came:
    weights = load_file(folder_of(settings, done) / "model.safetensors")
    return Came(done.step, weights, [point["ndcg@10"] for point in done.training["dev_curve"]])


def assert_same(one: Came, other: Came) -> None:
    assert one.step == other.step
    assert one.weights.keys() == other.weights.keys()
    assert max(abs(one.weights[name] - other.weights[name]).max() for name in one.weights) <= TOLERANCE
    assert one.scores == pytest.approx(other.scores, abs=1e-3)


_uninterrupted: list[Came] = []


def uninterrupted(settings: Settings) -> Came:
    """Of ``STEPS``, in one go, once for all tests."""
    if not _uninterrupted:
        _uninterrupted.append(came_to(settings, run(settings, plan(settings, "whole", **STEPS))))
    return _uninterrupted[0]


@pytest.mark.parametrize(
    ("phase", "count"),
    [
        ("train", 1),
        ("train", 3),  # the end of an epoch, with a score to come
        pytest.param("train", 5, marks=pytest.mark.thorough),
        ("train", 8),  # the last step
        ("score passages", 1),  # before training
        pytest.param("score passages", 2, marks=pytest.mark.thorough),  # after the first epoch
    ],
)
def test_a_signal_at_any_moment(settings: Settings, phase: str, count: int) -> None:
    whole = uninterrupted(settings)
    plan(settings, "stopped", **STEPS)
    before = signal.getsignal(signal.SIGTERM)
    with open_pool(settings) as pool, pytest.raises(Interrupted, match="interrupted"):
        train(settings, pool, "stopped", progress=StopAt(phase, count))
    stopped = row(settings, "stopped")
    assert stopped.state == "interrupted"
    assert "Run it again" in (stopped.error or "")
    assert signal.getsignal(signal.SIGTERM) is before
    done = run(settings, "stopped")
    assert (done.state, done.attempts, done.error) == ("trained", 2, None)
    assert done.training["resumed_from"] == ([] if (phase, count) == ("score passages", 1) else [stopped.step])
    assert_same(whole, came_to(settings, done))
    assert len(done.training["attempts"]) == 2
    assert done.training["machine_seconds"] > done.training["seconds"]


@pytest.mark.slow
def test_kill_9_and_the_real_command(settings: Settings, environment: dict[str, str]) -> None:
    whole = run(settings, plan(settings, "whole", max_steps=14, checkpoint_steps=2))
    plan(settings, "killed", max_steps=14, checkpoint_steps=2)
    child = command(environment, "killed")
    code, _ = stop_after(child, settings, "killed", 4, signal.SIGKILL)
    assert code == -signal.SIGKILL
    left = row(settings, "killed")
    assert (left.state, left.attempts) == ("training", 1)
    assert left.step >= 4
    again = command(environment, "killed")
    said, log = again.communicate(timeout=400)
    assert again.returncode == 0, log
    result = json.loads(said)
    assert result["state"] == "trained"
    assert result["resumed_from"][0] >= 4
    done = row(settings, "killed")
    assert done.attempts == 2
    assert_same(came_to(settings, whole), came_to(settings, done))
    assert [p["step"] for p in done.training["loss"]] == [p["step"] for p in whole.training["loss"]]
    assert [p["loss"] for p in done.training["loss"]] == pytest.approx([p["loss"] for p in whole.training["loss"]], abs=1e-4)
    assert len(models_of(settings)) == 1  # the same content has one place
    assert "step 14 of 14" in log  # a line each interval, where nobody sees bars


@pytest.mark.slow
def test_sigterm_to_the_real_command_while_another_asks(settings: Settings, environment: dict[str, str]) -> None:
    plan(settings, "stopped", max_steps=400, checkpoint_steps=2)
    child = command(environment, "stopped")
    other: list[str] = []

    def ask() -> None:
        with pytest.raises(Transient, match="going on in another process"):
            run(settings, "stopped")
        other.append("told")

    checkpoints = Checkpoints(settings, "stopped")
    while not checkpoints.steps():
        assert child.poll() is None, child.communicate()[1]
    ask()
    code, said = stop_after(child, settings, "stopped", 4, signal.SIGTERM)
    assert code == 75
    assert "SIGTERM: this step is finished and a checkpoint saved" in said
    assert "was interrupted at step" in said
    stopped = row(settings, "stopped")
    assert stopped.state == "interrupted"
    assert checkpoints.steps()[-1] == stopped.step
    assert other == ["told"]


@pytest.mark.slow
def test_a_full_disk_keeps_the_checkpoint_before(settings: Settings, environment: dict[str, str]) -> None:
    """A limit of file sizes is what a full disk looks like to a process."""
    plan(settings, "full", **STEPS)
    with open_pool(settings) as pool, pytest.raises(Interrupted):
        train(settings, pool, "full", progress=StopAt("train", 4))
    limited = (
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000));"
        "sys.argv = ['train', 'embedder', '--run-key', 'full']; runpy.run_module('include.training', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", limited], env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 75, done.stderr
    assert "cannot be written" in done.stderr
    assert "Make room there" in done.stderr
    assert row(settings, "full").state == "interrupted"
    assert Checkpoints(settings, "full").steps()[-1] == 4
    assert run(settings, "full").state == "trained"


def test_a_store_that_cannot_be_used(settings: Settings) -> None:
    plan(settings, "nowhere")
    settings.home.mkdir(exist_ok=True)
    (settings.home / "file").write_text("")
    broken = settings.model_copy(update={"artifacts": (settings.home / "file").as_uri()})
    with pytest.raises(BadConfiguration, match="RAGWORKS_ARTIFACTS"):
        run(broken, "nowhere")
    assert row(settings, "nowhere").state == "failed"
    assert run(settings, "nowhere").state == "trained"  # asked again with a place that there is


def test_a_damaged_checkpoint_is_passed_over(settings: Settings) -> None:
    plan(settings, "damaged", **STEPS)
    with open_pool(settings) as pool, pytest.raises(Interrupted):
        train(settings, pool, "damaged", progress=StopAt("train", 6))
    checkpoints = Checkpoints(settings, "damaged")
    assert checkpoints.steps() == [4, 6]
    place = checkpoints.store.place(f"{checkpoints.where}/step-6")
    assert place is not None
    (place / "weights.safetensors").write_bytes(b"half")
    done = run(settings, "damaged")
    assert done.training["resumed_from"] == [4]
    assert done.step == 8


def test_scores_begin_anew_when_the_collection_changed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    plan(settings, "moved", **STEPS)
    with open_pool(settings) as pool, pytest.raises(Interrupted):
        train(settings, pool, "moved", progress=StopAt("train", 4))
    others = [("other.md", "Another passage that came in meanwhile.")]
    monkeypatch.setattr("include.training.embedder.dev_set", lambda job: _with_others(job, others))
    done = run(settings, "moved")
    assert [point["step"] for point in done.training["dev_curve"]] == [6, 8]
    assert done.training["baseline"] is not None


def _with_others(job: object, others: list[tuple[str, str]]) -> object:
    from include.training.dev import made_of

    return made_of([pair for pair in pairs() if pair.split == "dev"], others)


def test_a_database_that_goes_away(settings: Settings) -> None:
    plan(settings, "alone", **STEPS)

    def cut() -> None:
        """End the session that holds the training's lock, as a restart of Postgres would."""
        statement = "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and classid = %s"
        assert query(settings, statement, training_locks.TRAINING_LOCK) == [(True,)]

    with open_pool(settings) as pool, pytest.raises(ServiceUnavailable, match=r"Postgres.* went away"):
        train(settings, pool, "alone", progress=StopAt("train", 5, cut))
    assert row(settings, "alone").state == "training"  # nobody could say otherwise
    assert Checkpoints(settings, "alone").steps()[-1] == 6  # what was learned is saved
    done = run(settings, "alone")
    assert (done.state, done.training["resumed_from"]) == ("trained", [6])


@pytest.mark.parametrize("place", ["disk", "memory"])
def test_checkpoints_elsewhere(settings: Settings, place: str) -> None:
    """The trainer's folder is on this machine, the checkpoints are where RAGWORKS_ARTIFACTS says."""
    url = {"disk": (settings.home / "else where").as_uri(), "memory": f"memory://{settings.home}"}[place]
    elsewhere = settings.model_copy(update={"artifacts": url})
    plan(elsewhere, "elsewhere", **STEPS)
    with open_pool(elsewhere) as pool, pytest.raises(Interrupted):
        train(elsewhere, pool, "elsewhere", progress=StopAt("train", 5))
    stopped = row(elsewhere, "elsewhere")
    checkpoints = Checkpoints(elsewhere, "elsewhere")
    assert stopped.checkpoint == f"artifacts:{checkpoints.where}/step-5"
    assert checkpoints.steps() == [4, 5]
    done = run(elsewhere, "elsewhere")
    assert done.state == "trained"
    assert folder_of(elsewhere, done).is_dir()
    assert not list((settings.home / "staging").glob("*"))
    checkpoints.remove()
    assert checkpoints.steps() == []

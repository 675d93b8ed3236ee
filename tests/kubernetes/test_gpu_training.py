"""The real training command in the task: taken away in the middle, tried again, and one model at the end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from include.errors import Transient
from include.registry.stores import open_store
from include.training.checkpoints import Checkpoints
from tests.kubernetes.tasks import KEY, until
from tests.training.tiny import plan, row

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from include.config import Settings
    from tests.kubernetes.loopback import Cluster
    from tests.kubernetes.tasks import Task


@pytest.fixture
def stored(settings: Settings, tmp_path: Path, in_environment: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings with artifacts in a folder that pods mount too."""
    folder = tmp_path / "artifacts"
    folder.mkdir()
    monkeypatch.setenv("RAGWORKS_ARTIFACTS", folder.as_uri())
    return settings.model_copy(update={"artifacts": folder.as_uri()})


def _mounted(folder: str) -> dict[str, Any]:
    from kubernetes.client import models as k8s

    claim = k8s.V1PersistentVolumeClaimVolumeSource(claim_name="artifacts")
    return {
        "volumes": [k8s.V1Volume(name="artifacts", persistent_volume_claim=claim)],
        "volume_mounts": [k8s.V1VolumeMount(name="artifacts", mount_path=folder)],
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "end", ["preempted", *(pytest.param(end, marks=pytest.mark.thorough) for end in ("killed", "stopped locally"))]
)
def test_it_goes_on_where_it_was(
    end: str, stored: Settings, task: Callable[..., Task], cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAGWORKS_COMPUTE", "local" if end == "stopped locally" else "kubernetes")
    plan(stored, KEY, max_steps=16, checkpoint_steps=2)
    running = task(family="embedder", command=None, grace_seconds=60, pod=_mounted(str(tmp_path / "artifacts")))
    first = running.in_background()
    checkpoints = Checkpoints(stored, KEY)
    until(lambda: any(step >= 4 and checkpoints._complete(step) for step in checkpoints.steps()), 120)
    if end == "stopped locally":
        assert running.operator
        running.operator.on_kill()
    else:
        name = next(iter(cluster.pods))
        (cluster.preempt if end == "preempted" else cluster.kill)(name)
    error = first.ended(120)
    assert isinstance(error, Transient), error
    stopped = row(stored, KEY)
    assert stopped.state == ("training" if end == "killed" else "interrupted")
    running.run()
    done = row(stored, KEY)
    assert (done.state, done.step, done.attempts) == ("trained", 16, 2)
    assert len(done.training["resumed_from"]) == 1
    assert done.training["resumed_from"][0] >= 4
    curve = [point["step"] for point in done.training["loss"]]
    assert curve == sorted(set(curve))  # it continues, and nothing is in it twice
    assert (curve[0] <= 2, curve[-1]) == (True, 16)
    assert len(open_store(stored).names("models/embedder/handbook")) == 1


@pytest.mark.slow
def test_a_training_that_cannot_be_done_is_not_retried(stored: Settings, task: Callable[..., Task], tmp_path: Path) -> None:
    from include.errors import Terminal

    plan(stored, KEY, max_steps=2)
    with pytest.raises(Terminal, match=r"ended with exit code 65: .*it is of the embedder"):
        task(command=[sys.executable, "-m", "include.training"], pod=_mounted(str(tmp_path / "artifacts"))).run()

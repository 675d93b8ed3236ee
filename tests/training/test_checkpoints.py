"""Which checkpoints are kept, and which one is taken."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from include.config import Settings
from include.registry.stores import MANIFEST
from include.training import weights
from include.training.checkpoints import Checkpoints, remove, safe_name
from include.training.resumable import resumable

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["disk", "memory"])
def checkpoints(request: pytest.FixtureRequest, tmp_path: Path) -> Checkpoints:
    url = {"disk": (tmp_path / "artifacts").as_uri(), "memory": f"memory://{tmp_path}"}[request.param]
    return Checkpoints(Settings(home=tmp_path / "home", artifacts=url), "dag/run 1")


def save(checkpoints: Checkpoints, step: int) -> None:
    folder = checkpoints.store.staging("x")
    (folder / "state").write_text(str(step))
    checkpoints.save(folder, step, {})


def test_two_are_kept_and_the_newest_is_taken(checkpoints: Checkpoints, tmp_path: Path) -> None:
    assert checkpoints.newest(tmp_path / "copy") is None
    for step in (2, 9, 10):
        save(checkpoints, step)
    assert checkpoints.steps() == [9, 10]
    found = checkpoints.newest(tmp_path / "copy")
    assert found is not None
    assert (found[0], (found[1] / "state").read_text()) == (10, "10")


def test_one_that_was_never_finished_is_passed_over_and_cleared_away(checkpoints: Checkpoints, tmp_path: Path) -> None:
    save(checkpoints, 2)
    save(checkpoints, 4)
    _remove(checkpoints, f"{checkpoints.where}/step-4/{MANIFEST}")
    found = checkpoints.newest(tmp_path / "copy")
    assert found is not None
    assert found[0] == 2
    save(checkpoints, 6)
    assert checkpoints.steps() == [2, 6]


def _remove(checkpoints: Checkpoints, path: str) -> None:
    place = checkpoints.store.place(path)
    if place is not None:
        place.unlink()
    else:
        checkpoints.store._fs.rm_file(f"{checkpoints.store._root}/{path}")  # type: ignore[attr-defined]


def test_they_are_removed_when_the_training_was_judged(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, artifacts=(tmp_path / "a").as_uri())
    other = Checkpoints(settings, "other")
    save(Checkpoints(settings, "key"), 1)
    save(other, 1)
    remove(settings, "key")
    remove(settings, "key")
    assert Checkpoints(settings, "key").steps() == []
    assert other.steps() == [1]


def test_every_key_has_a_folder_of_its_own() -> None:
    keys = [
        "train_embedder/manual__2026-11-28T11:00:00+00:00",
        "train_embedder-manual__2026-11-28T11-00-00-00-00",
        "../..",
        "",
        "ü",
    ]
    names = [safe_name(key) for key in keys]
    assert len(set(names)) == len(keys)
    assert all("/" not in name and not name.startswith(".") for name in names)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    from torch import nn

    from include.errors import BadData

    weights.save(nn.Linear(2, 3), tmp_path)
    with pytest.raises(BadData, match="it is of another model: weight differs"):
        weights.load(nn.Linear(3, 3), tmp_path)
    with pytest.raises(BadData, match="it is of another model"):
        weights.load(nn.Linear(2, 3, bias=False), tmp_path)


def test_weights_that_stay_are_not_saved(tmp_path: Path) -> None:
    import torch
    from torch import nn

    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    weights.save(model, tmp_path)
    other = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))
    other[0].requires_grad_(False)
    frozen = other[0].weight.clone()
    weights.load(other, tmp_path)
    assert torch.equal(other[0].weight, frozen)
    assert torch.equal(other[2].weight, model[2].weight)
    assert torch.equal(other[1].running_mean, model[1].running_mean)


def test_of_several_processes_the_first_writes_the_weights(tmp_path: Path) -> None:
    """All save at once, into one folder: one that finds the file of another under its hands would end the training."""
    from torch import nn

    trainer = resumable(object)()
    trainer.model = nn.Linear(2, 2)
    for writes in (False, True):
        trainer.args = SimpleNamespace(should_save=writes, output_dir=str(tmp_path))
        trainer._save()
        assert (tmp_path / weights.WEIGHTS).exists() is writes

"""Before a GPU is asked for: whether a training fits, how long it takes, and what it will read."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from include.errors import BadConfiguration, BadData
from include.store.pool import open_pool
from include.training.arguments import LlmArguments, checked
from include.training.llm.estimate import GIB
from include.training.llm.examples import Example
from include.training.llm.fitting import Device
from include.training.llm.forecast import forecast, packed_rows, plan_of
from ragworks.profiles import PodProfile
from tests.training.llm.trainings import plan, row, tiny_base

if TYPE_CHECKING:
    from pathlib import Path

    from include.config import Settings

L4 = Device("l4", 22 * GIB, flops=121e12)
TINY = Device("toaster", 2**20)
UNKNOWN = Device("any", 0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.getbasetemp() / "llm-base")


def test_where_it_fits_and_for_how_long(settings: Settings, base: Path) -> None:
    plan(settings, "planned", base, max_steps=0, epochs=2, gradient_accumulation=2)
    with open_pool(settings) as pool:
        said = forecast(settings, pool, "planned", profile=[TINY, L4, UNKNOWN])
        assert row(settings, "planned").training["forecast"] == said
        assert said["fitting"] == ["l4", "any"]
        assert (said["rows"], said["steps"], said["left_out"]) == (20, 6, 0)  # 20 rows in steps of 8, twice
        small, good, unknown = said["devices"]
        assert not small["fits"]
        assert "it needs about" in small["reason"]
        assert good["fits"]
        assert 0.5 * GIB < good["need"] < 0.6 * GIB  # CUDA's context above all
        assert good["seconds"] == 0
        assert unknown["reason"] == "the memory of any is not known"
        # This machine, without a GPU: a base in 4 bits is not for it.
        here = forecast(settings, pool, "planned")
        assert here["fits"]
        with pytest.raises(BadConfiguration, match=r"fits nowhere: toaster: it needs about .* Change its arguments"):
            forecast(settings, pool, "planned", profile=TINY)
        assert row(settings, "planned").training["forecast"]["fitting"] == []


def test_what_cannot_be_done_is_said_before(settings: Settings, base: Path) -> None:
    plan(settings, "long", base, max_length=8)
    plan(settings, "four-bits", base, quantisation="nf4")
    with open_pool(settings) as pool:
        with pytest.raises(BadData, match="all 20 conversations are over max_length 8"):
            forecast(settings, pool, "long", profile=L4)
        with pytest.raises(BadConfiguration, match="bitsandbytes holds weights as nf4 on a GPU with CUDA alone"):
            forecast(settings, pool, "four-bits", profile=Device("two cores", 8 * GIB, kind="cpu"))
        assert forecast(settings, pool, "four-bits", profile=L4)["fits"]


def test_a_base_that_it_does_not_know_is_trained_without_an_estimate(settings: Settings, base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "experts"
    shutil.copytree(base, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_local_experts": 8}))
    plan(settings, "experts", folder)
    plan(settings, "experts-four-bits", folder, quantisation="nf4")
    with open_pool(settings) as pool:
        said = forecast(settings, pool, "experts", profile=[TINY, L4])
        assert said["fitting"] == ["toaster", "l4"]
        assert "what it needs is not known: it is a mixture of experts" in said["devices"][0]["reason"]
        assert "nobody knows how much" in said["said"]
        with pytest.raises(BadConfiguration, match="on a GPU with CUDA alone"):
            forecast(settings, pool, "experts-four-bits", profile=Device("two cores", 8 * GIB, kind="cpu"))


def test_a_training_that_takes_longer_than_its_profile_allows_is_refused(settings: Settings, base: Path) -> None:
    profile = PodProfile(name="slow", gpu_memory="22Gi", gpu_tflops=0.000001, max_hours=0.5)
    plan(settings, "hours", base, max_steps=0, epochs=50)
    with open_pool(settings) as pool:
        with pytest.raises(BadConfiguration, match=r"it takes about .* h on slow, the limit is 0.5 h.* raise max_hours"):
            forecast(settings, pool, "hours", profile=profile.device())
        assert forecast(settings, pool, "hours", profile=profile.model_copy(update={"max_hours": None}).device())["fits"]


@pytest.mark.parametrize(
    ("arguments", "rows", "steps", "tokens"),
    [
        ({"batch_size": 2, "epochs": 3}, 5, 9, 30),
        ({"batch_size": 2, "epochs": 3, "gpus": 2}, 5, 6, 30),
        ({"max_steps": 7}, 5, 7, 30),
        ({"batch_size": 1, "epochs": 1, "packing": True, "max_length": 12}, 3, 3, 30),
    ],
)
def test_steps(arguments: dict[str, Any], rows: int, steps: int, tokens: int) -> None:
    found = plan_of([Example((1,) * 4, (2,) * 2)] * 5, checked(LlmArguments, arguments))
    assert (found.rows, found.steps, found.tokens) == (rows, steps, tokens)


def test_rows_are_packed_as_trl_packs_them() -> None:
    from datasets import Dataset
    from trl.data_utils import pack_dataset

    lengths = [3, 9, 4, 7, 2, 8, 5, 5, 6, 1, 10, 4]
    data = Dataset.from_dict({"input_ids": [[1] * length for length in lengths]})
    assert packed_rows(lengths, 10) == len(pack_dataset(data, 10, "bfd"))

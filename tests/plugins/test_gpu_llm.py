"""The GPU task of a language model asks for as many GPUs as it is told, of the profiles that its forecast says will do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from include.errors import BadConfiguration
from ragworks.operators.gpu import GpuTaskOperator, _memory
from ragworks.profiles import PROFILES, PodProfile, quantity_bytes, read_profiles

if TYPE_CHECKING:
    from include.config import Settings


def operator(monkeypatch: pytest.MonkeyPatch, training: dict[str, Any], **arguments: Any) -> GpuTaskOperator:
    made = GpuTaskOperator(task_id="train", family="llm", run_key="k", **arguments)
    monkeypatch.setattr(made, "_row", lambda settings: SimpleNamespace(training=training))
    return made


@pytest.mark.parametrize(
    ("training", "tried"),
    [({}, ["l4", "a100", "any"]), ({"forecast": {"fitting": ["a100", "any"]}}, ["a100", "any"])],
)
def test_profiles_that_fit(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, training: dict[str, Any], tried: list[str]
) -> None:
    there = settings.model_copy(update={"artifacts": "s3://models/ragworks", "compute": "kubernetes"})
    pod = operator(monkeypatch, training, gpus="2").pod_operator(there)
    assert [profile.name for profile in pod.profiles] == tried
    pod._choose()
    (container,) = pod.build_pod_request_obj(dry_run=True).spec.containers
    assert container.resources.limits["nvidia.com/gpu"] == "2"
    assert container.args[:2] == ["-m", "include.training"]


def test_none_fits(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadConfiguration, match="fits none of l4, a100, any"):
        operator(monkeypatch, {"forecast": {"fitting": ["h100"]}}).pod_operator(settings)


def test_a_profile_as_the_forecast_takes_it() -> None:
    l4, a100, other = (profile.device() for profile in read_profiles(PROFILES))
    assert (l4.name, l4.memory, l4.flops) == ("l4", 22 * 2**30, 121e12)
    assert a100.memory == 39 * 2**30
    assert (other.memory, other.flops) == (0, 0)
    assert PodProfile(name="a", gpu_memory="80G").device().memory == 80 * 10**9
    assert quantity_bytes("1.5Ki") == 1536


def test_a_childs_memory_is_given_back_as_estimated() -> None:
    assert _memory("llm")["MALLOC_ARENA_MAX"] == "1"
    assert _memory("embedder") == {}

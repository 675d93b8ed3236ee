"""Which pods a GPU task asks for, in which order: ``include/k8s/profiles.yaml``, checked to the letter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from include.config import PROJECT_ROOT
from include.errors import BadConfiguration
from include.mistakes import explain_mistake
from include.training.llm.fitting import Device

if TYPE_CHECKING:
    from pathlib import Path

PROFILES = PROJECT_ROOT / "include" / "k8s" / "profiles.yaml"
TEMPLATE = PROJECT_ROOT / "include" / "k8s" / "training_pod.yaml"

# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/, the part of it that people write
Quantity = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")]
LabelValue = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$")]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Toleration(_Section):
    """Lets a pod onto nodes that a taint keeps others off; Kubernetes' own words.

    :param key: of the taint; none, with ``Exists``: any.
    :param toleration_seconds: how long a running pod stays when the taint comes later.
    """

    key: str | None = None
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _sound(self) -> Toleration:
        if self.operator == "Exists" and self.value is not None:
            raise ValueError("operator Exists takes no value")
        if self.key is None and self.operator != "Exists":
            raise ValueError("without a key the operator must be Exists")
        return self


class PodProfile(_Section):
    """A kind of pod, and how long to wait for it.

    :param name: stands in logs, in the pod's annotation and in the training's manifest.
    :param node_selector: labels that the node must have, for example a GPU model.
    :param gpu_resource: what the nodes call a GPU; ``gpus`` how many the pod takes.
    :param gpu_memory: of one GPU; null: not known, and a training of a language model is not refused for it.
    :param gpu_tflops: peak of one GPU in bf16 without sparsity, in TFLOP/s; null: no time is estimated.
    :param max_hours: longest that a training of a language model may take there by its forecast; null: no limit.
    :param price_per_hour: of one GPU, in your currency; null: the manifest holds GPU-seconds and no cost.
    :param kueue_queue: a LocalQueue of Kueue that admits the pod; null: the scheduler alone decides.
    :param schedule_timeout_seconds: how long the pod may find no node before the next profile is tried. Waiting in a queue of
        Kueue does not count. Longer than a node takes to be added, where nodes are added on demand.
    """

    name: LabelValue = Field(min_length=1)
    node_selector: dict[str, LabelValue] = {}
    tolerations: tuple[Toleration, ...] = Field(default=(), strict=False)
    gpu_resource: str = Field(default="nvidia.com/gpu", pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")
    gpus: int = Field(default=1, ge=1, le=64)
    gpu_memory: Quantity | None = None
    gpu_tflops: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_hours: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    cpu: Quantity = "4"
    memory: Quantity = "16Gi"
    price_per_hour: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    kueue_queue: LabelValue | None = Field(default=None, min_length=1)
    schedule_timeout_seconds: int = Field(default=600, ge=1, le=7 * 86_400)

    def device(self) -> Device:
        """One GPU of it, as the forecast of a training takes it."""
        memory = quantity_bytes(self.gpu_memory) if self.gpu_memory else 0
        return Device(self.name, memory, flops=(self.gpu_tflops or 0.0) * 1e12, hours=self.max_hours or 0.0)


class _File(_Section):
    profiles: tuple[PodProfile, ...] = Field(min_length=1, strict=False)

    @field_validator("profiles")
    @classmethod
    def _told_apart(cls, value: tuple[PodProfile, ...]) -> tuple[PodProfile, ...]:
        names = [profile.name for profile in value]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two profiles are called {', '.join(twice)}")
        return value


def read_profiles(path: Path = PROFILES) -> tuple[PodProfile, ...]:
    """The profiles of a file, in the order in which they are tried; at least one.

    :raises BadConfiguration: with file, key, what is wrong and what would be right.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise BadConfiguration(str(path), f"not readable as YAML ({' '.join(str(error).split())})", "Fix the file") from error
    if not isinstance(raw, dict):
        raise BadConfiguration(str(path), "not a mapping of settings", "Start it with 'profiles:'")
    try:
        return _File.model_validate(raw).profiles
    except ValidationError as error:
        problems = "; ".join(_explain(dict(e)) for e in error.errors())
        raise BadConfiguration(str(path), problems, "See docs/gpu-tasks.md for every key") from None


_UNITS = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def quantity_bytes(quantity: str) -> int:
    """A quantity of Kubernetes in bytes."""
    unit = next((one for one in ("Ki", "Mi", "Gi", "Ti", "k", "M", "G", "T", "m") if quantity.endswith(one)), "")
    number = float(quantity.removesuffix(unit))
    return round(number / 1000 if unit == "m" else number * _UNITS.get(unit, 1))


_BY_DEPTH: dict[int, type[BaseModel]] = {1: _File, 3: PodProfile}


def _explain(error: dict[str, Any]) -> str:
    location = [str(part) for part in error["loc"]]
    return explain_mistake(error, ".".join(location), _BY_DEPTH.get(len(location), Toleration))

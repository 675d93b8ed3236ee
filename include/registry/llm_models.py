"""A trained language model as the registry keeps it: an adapter, and the one base that it is worth something on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.errors import BadData
from include.registry.artifacts import local_model
from include.training.llm.adapters import read_adapter
from include.training.llm.bases import chat_template, find_base

if TYPE_CHECKING:
    from include.config import Settings
    from include.training.llm.adapters import Adapter
    from include.training.llm.bases import Base


@dataclass(frozen=True, slots=True)
class TrainedLlm:
    """Base and adapter on this machine, each compared with what is known of it."""

    base: Base
    adapter: Adapter

    @property
    def facts(self) -> dict[str, Any]:
        """What a deployment keeps."""
        return {"fingerprint": self.adapter.fingerprint, "base": self.base.name, "base_fingerprint": self.adapter.base}


def open_trained(settings: Settings, artifact: str | None, base: str, *, fingerprint: str | None = None) -> TrainedLlm:
    """The adapter of an artifact and its base, after hashes, fingerprints and template were looked at; no weights are loaded.

    :param base: name of the base, as the training's row has it.
    :param fingerprint: of the adapter, as the registry knows it.
    :raises BadData: there is no model, a file is not what was saved, or the base is not the one that it was trained on.
    :raises BadConfiguration: base or artifact is not there, or the tokenizer has no chat template.
    """
    if not artifact:
        raise BadData("a model of family llm", "its training left no model", "Let it end, or train again")
    adapter = read_adapter(Path(local_model(artifact, settings)), fingerprint=fingerprint)
    found = find_base(local_model(base, settings))
    if found.fingerprint.rpartition(":")[0] != adapter.base_digest:
        raise BadData(
            f"base {base!r} of {artifact}", f"it is {found.fingerprint}, the adapter was trained on {adapter.base}",
            "Restore the files of the base; on another one the adapter is worth nothing",
        )  # fmt: skip
    chat_template(found)
    return TrainedLlm(replace(found, name=base), adapter)


def check_fit(trained: TrainedLlm) -> None:
    """Put the adapter on the base's modules, without their weights: what does not fit must not be put to work.

    :raises BadConfiguration: a module is missing, or of another shape.
    """
    from include.training.llm.merging import skeleton, with_adapters

    with_adapters(skeleton(trained.base), [trained.adapter])

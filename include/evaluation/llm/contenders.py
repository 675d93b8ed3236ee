"""Which language model serves a collection and which would take its place, each compared with what is known of its files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from include.evaluation.llm.writer import Writer
from include.registry.artifacts import local_model
from include.registry.llm_models import open_trained
from include.store import deployments, model_runs
from include.training.llm.bases import find_base

if TYPE_CHECKING:
    from include.config import Settings
    from include.store.model_runs import ModelRun
    from include.store.pool import Pool
    from include.training.llm.adapters import Adapter
    from include.training.llm.bases import Base


@dataclass(frozen=True, slots=True)
class Model:
    """A base with an adapter, or without.

    :param version: in the registry; None: never registered, or the base alone.
    """

    base: Base
    adapter: Adapter | None = None
    version: int | None = None

    @property
    def fingerprint(self) -> str:
        """Of the adapter, else of the base: what two models are told apart by."""
        return self.adapter.fingerprint if self.adapter else self.base.fingerprint

    @property
    def facts(self) -> dict[str, Any]:
        """For the report."""
        label = f"llm {self.version}" if self.version else f"adapter of {self.base.name}" if self.adapter else self.base.name
        return {
            "label": label,
            "fingerprint": self.fingerprint,
            "weight": None,
            "base": self.base.name,
            "base_fingerprint": self.adapter.base if self.adapter else self.base.fingerprint,
            "adapter": self.adapter.fingerprint if self.adapter else None,
            "version": self.version,
        }


def champion_of(settings: Settings, pool: Pool, run: ModelRun) -> Model:
    """The promoted model of the training's collection; where none is, the base that the training starts from, alone."""
    live = promoted(settings, pool, run.collection_id)
    if live is None:
        return Model(find_base(local_model(run.base, settings)))
    found = open_trained(settings, live.artifact, live.base, fingerprint=live.fingerprint)
    return Model(found.base, found.adapter, live.version)


def challenger_of(settings: Settings, run: ModelRun) -> Model:
    """What the training left.

    :raises BadData: nothing, or its files are not what was saved.
    """
    found = open_trained(settings, run.artifact, run.base, fingerprint=run.fingerprint)
    return Model(found.base, found.adapter, run.version)


def promoted(settings: Settings, pool: Pool, collection: int) -> ModelRun | None:
    """The training whose model serves; None where none was promoted."""
    with pool.connection() as connection:
        live = deployments.deployed(connection, settings.environment, "llm", collection)
        return model_runs.by_id(connection, live.model_run_id) if live and live.model_run_id else None


def open_writers(sides: dict[str, Model]) -> dict[str, Writer]:
    """Side → what writes for it. Models of one base share it in memory; of two bases both are loaded."""
    writers: dict[str, Writer] = {}
    for digest in dict.fromkeys(_digest(model) for model in sides.values()):
        of_base = {name: model for name, model in sides.items() if _digest(model) == digest}
        base = next(iter(of_base.values())).base
        writers |= dict.fromkeys(of_base, Writer(base, {name: model.adapter for name, model in of_base.items()}))
    return writers


def _digest(model: Model) -> str:
    return model.base.fingerprint.rpartition(":")[0]

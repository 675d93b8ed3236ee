"""Who takes part when a trained model is compared: what serves now, the challenger, and what else is worth a look.

Each is asked through the search that serves, of one generation and with one second stage. The latency budget does not cut the
candidates here: quality is that of the model when all are read, and what reading them takes is measured apart.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from include.collection_file import CHAMPION, load_collection
from include.errors import BadConfiguration, RagworksError
from include.evaluation.asking import Side
from include.evaluation.configuration import FixedSearcher
from include.store import collections, deployments, generations, model_runs

if TYPE_CHECKING:
    from include.collection_file import Collection
    from include.config import Settings
    from include.embedding.embedder import Embedder
    from include.progress import Progress
    from include.retrieval.rerank import Reranker
    from include.store.generations import Generation
    from include.store.model_runs import ModelRun
    from include.store.pool import Pool

logger = logging.getLogger(__name__)

UNLIMITED_MS = 10**9
FAMILIES = ("reranker", "embedder", "llm")


@dataclass(frozen=True, slots=True)
class Trial:
    """What the steps of one evaluation share.

    :param collection: its file as it is now, read once.
    :param live: the generation that answers queries.
    """

    settings: Settings
    pool: Pool
    run: ModelRun
    collection: Collection
    live: Generation
    progress: Progress

    @property
    def name(self) -> str:
        """Of the collection."""
        return self.collection.name


@dataclass(frozen=True, slots=True)
class Contender:
    """One that is asked.

    :param name: its side in the report: champion, challenger, first_stage …
    :param label: for people.
    :param embedder: instead of opening the one that made the generation's vectors.
    :param reranker: None: one stage.
    """

    name: str
    label: str
    generation: Generation
    embedder: Embedder | None = None
    reranker: Reranker | None = None

    def side(self, trial: Trial) -> Side:
        """What answers for it."""
        retrieval = trial.collection.retrieval.model_copy(update={"latency_budget_ms": UNLIMITED_MS})
        fixed = trial.collection.model_copy(update={"retrieval": retrieval})
        finder = FixedSearcher(
            trial.settings, trial.pool, trial.name, fixed, self.generation, self.embedder, reranker=self.reranker
        )
        return Side(finder, trial.collection.retrieval.mode, rerank=self.reranker is not None)

    def facts(self, trial: Trial) -> dict[str, Any]:
        """What it consists of, for the report."""
        embedding = self.generation.spec["embedding"]
        facts: dict[str, Any] = {
            "label": self.label,
            "generation": self.generation.id,
            "embedder": {"model": embedding["model"], "fingerprint": self.generation.embedder,
                         "dimension": self.generation.dimension},
            "reranker": None,
        }  # fmt: skip
        if self.reranker is not None:
            facts["reranker"] = {
                "model": self.reranker.name,
                "fingerprint": self.reranker.fingerprint,
                "weight": blend_weight(trial, self.reranker),
                "candidates": trial.collection.retrieval.rerank_candidates,
            }
        return facts


def open_trial(settings: Settings, pool: Pool, run_key: str, progress: Progress) -> Trial:
    """The training with its collection.

    :raises BadData: no training has this key, or the collection has no live index.
    :raises BadConfiguration: a family that is not compared here.
    """
    with pool.connection() as connection:
        run = model_runs.by_key(connection, run_key)
        if run.family not in FAMILIES:
            raise BadConfiguration(
                f"training {run_key}", f"models of family {run.family} are not compared here",
                f"Use it for {', '.join(FAMILIES)}",
            )  # fmt: skip
        name = collections.collection_name(connection, run.collection_id)
        live = generations.require_live(connection, run.collection_id, name)
    return Trial(settings, pool, run, load_collection(settings, name), live, progress)


def serving_reranker(settings: Settings, pool: Pool, collection: Collection) -> Reranker | None:
    """The second stage that searches have now; None where there is none, or where it cannot be opened, as searches do."""
    named = collection.retrieval.reranker
    if named is None:
        return None
    if named != CHAMPION:
        from include.retrieval.rerank import open_reranker

        return open_reranker(named, settings)
    from include.registry.champions import reranker_champion

    try:
        return reranker_champion(settings, collection.name).refresh(pool)
    except RagworksError as error:
        logger.warning("%s: its reranker cannot be opened, so search has one stage: %s", collection.name, error)
        return None


def serving_now(settings: Settings, pool: Pool, name: str, family: str = "") -> dict[str, str | None]:
    """Fingerprints of the embedder and the reranker that serve: a comparison counts for as long as they do.

    :param family: of ``llm`` also that of the adapter that answers; None: none was promoted, and ``writer`` says who writes.
    """
    with pool.connection() as connection:
        live = generations.live_of(connection, name)
    reranker = serving_reranker(settings, pool, load_collection(settings, name))
    found: dict[str, str | None] = {"embedder": live.embedder, "reranker": reranker.fingerprint if reranker else None}
    if family == "llm":
        with pool.connection() as connection:
            promoted = deployments.serving(connection, settings.environment, "llm", name)
        found["llm"] = promoted.settings.get("fingerprint") if promoted and promoted.artifact else None
        if found["llm"] is None:
            found["writer"] = _writer(settings)
    return found


def _writer(settings: Settings) -> str:
    """Who writes answers while no language model is promoted."""
    if not settings.llm_base_url:
        return "answers are extracted from passages"
    host = urlsplit(settings.llm_base_url).netloc.rpartition("@")[2]
    return f"{settings.llm_model} at {host}"


def trained(trial: Trial) -> str:
    """What to call the challenger."""
    return f"trained from {trial.run.base}" if trial.run.base else "trained here"


def blend_weight(trial: Trial, reranker: Reranker) -> float:
    """The share of its score in the final one, as :mod:`include.retrieval.stage` takes it."""
    from include.retrieval.stage import DEFAULT_WEIGHT

    set_in_file = trial.collection.retrieval.rerank_weight
    if set_in_file is not None:
        return set_in_file
    return DEFAULT_WEIGHT if reranker.weight is None else reranker.weight

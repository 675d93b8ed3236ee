"""Which trained models count at this moment: for searches, which go on for weeks, and for runs that build an index.

The table of deployments says it. A server looks every two seconds and loads a new champion before it is used: until then,
and for as long as it cannot be opened, the one before answers.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from include.collection_file import CHAMPION
from include.errors import BadConfiguration, RagworksError
from include.store import deployments

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from include.collection_file import Collection, Embedding
    from include.config import Settings
    from include.retrieval.rerank import FirstStage, Reranker
    from include.store.deployments import Deployment
    from include.store.pool import Connection, Pool

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
RETRY_SECONDS = 30.0  # until a champion that could not be opened is tried again: its store may be back


@dataclass(frozen=True, slots=True)
class PromotedReranker:
    """A reranker with its place in the registry: ``name`` is "reranker 3"."""

    model: Reranker
    version: int
    deployment: int
    weight: float | None

    @property
    def name(self) -> str:
        """Family and version."""
        return f"reranker {self.version}"

    @property
    def fingerprint(self) -> str:
        """Of the model."""
        return self.model.fingerprint

    def score(self, query: str, texts: Sequence[str], found: Sequence[FirstStage] | None = None) -> list[float]:
        """The model's."""
        return self.model.score(query, texts, found)


class RerankerChampion:
    """The reranker that was promoted for a collection in this environment, as a process knows it."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings, self._name = settings, name
        self._lock = threading.Lock()
        self._looked = float("-inf")
        self._seen: int | None = None  # the deployment that serves here, or is being loaded
        self._retry_at = float("inf")
        self._said = ""
        self._serving: PromotedReranker | None = None

    def get(self, pool: Pool) -> PromotedReranker | None:
        """The one to use now; None when none was promoted, or the first could not be opened.

        The first call of a process loads it, later ones never wait for a model.
        """
        with self._lock:
            if time.monotonic() - self._looked >= LOOK_SECONDS:
                first = self._looked == float("-inf")
                self._look(pool, wait=first)
                self._looked = time.monotonic()
            return self._serving

    def refresh(self, pool: Pool) -> PromotedReranker | None:
        """The same, looked up and loaded at once.

        :raises BadConfiguration: it cannot be opened; the one before goes on.
        """
        with self._lock:
            wanted = self._wanted(pool)
            made, problem = _tried(self._settings, wanted) if wanted else (None, "")
            if wanted and made is None:
                raise BadConfiguration(f"reranker {wanted.version} of {self._name} cannot be opened", problem)
            self._looked, self._seen, self._serving = time.monotonic(), wanted.id if wanted else None, made
            return self._serving

    def _wanted(self, pool: Pool) -> Deployment | None:
        with pool.connection() as connection:
            found = deployments.serving(connection, self._settings.environment, "reranker", self._name)
        return found if found is not None and found.artifact is not None else None

    def _look(self, pool: Pool, *, wait: bool) -> None:
        wanted = self._wanted(pool)
        if wanted is None:
            if wait or self._serving is not None:
                logger.debug("%s: no reranker is promoted, search has one stage", self._name)
            self._seen, self._serving = None, None
        elif wanted.id != self._seen or time.monotonic() >= self._retry_at:
            self._seen, self._retry_at = wanted.id, float("inf")
            if wait:
                self._take(wanted, *_tried(self._settings, wanted))
            else:
                threading.Thread(target=self._load, args=(wanted,), name=f"champion of {self._name}", daemon=True).start()

    def _load(self, wanted: Deployment) -> None:
        made = _tried(self._settings, wanted)
        with self._lock:
            if self._seen == wanted.id:  # else there is another one by now
                self._take(wanted, *made)

    def _take(self, wanted: Deployment, made: PromotedReranker | None, problem: str) -> None:
        if made is not None:
            self._serving, self._said = made, ""
            logger.info("%s: reranker %d serves", self._name, made.version)
            return
        self._retry_at = time.monotonic() + RETRY_SECONDS
        if self._said != f"{wanted.id} {problem}":
            self._said = f"{wanted.id} {problem}"
            instead = self._serving.name if self._serving else "search with one stage"
            logger.error(
                "%s: reranker %s cannot be opened, %s goes on: %s. Go back: ragworks rollback-model reranker --collection %s",
                self._name, wanted.version, instead, problem, self._name,
            )  # fmt: skip


_champions: dict[tuple[Settings, str], RerankerChampion] = {}
_making = threading.Lock()


def reranker_champion(settings: Settings, name: str) -> RerankerChampion:
    """The champion of a collection, one object a process."""
    with _making:
        return _champions.setdefault((settings, name), RerankerChampion(settings, name))


def with_champion(connection: Connection, settings: Settings, collection: Collection) -> Collection:
    """The collection with the name of a model where its file says ``embedding.model: champion``.

    That is the embedder that is being promoted, for its index is what a run is to build; else the one that serves; else
    ``embedding.base``.
    """
    if collection.embedding.model != CHAMPION:
        return collection
    chosen = _embedder(connection, settings.environment, collection.name)
    return collection.model_copy(update={"embedding": named(collection.embedding, chosen.artifact if chosen else None)})


def named(embedding: Embedding, artifact: str | None) -> Embedding:
    """The section with a trained model in place of ``champion``, which runs here whatever the base does; None: with the base.

    :raises BadConfiguration: the base is ``champion`` itself.
    """
    if artifact is not None:
        return embedding.model_copy(update={"model": artifact, "backend": "torch", "base_url": None})
    if embedding.base == CHAMPION:
        raise BadConfiguration("embedding.base", "it is what serves until there is a champion", "Name a model")
    return embedding.model_copy(update={"model": embedding.base})


def as_found(collection: Collection, passport: Mapping[str, Any]) -> Collection:
    """The collection with the model that found the passages in place of ``champion``: some formulas are fitted to a model."""
    used = passport.get("embedder")
    if collection.embedding.model != CHAMPION or not isinstance(used, dict):
        return collection
    return collection.model_copy(update={"embedding": collection.embedding.model_copy(update={"model": str(used["model"])})})


def _embedder(connection: Connection, environment: str, name: str) -> Deployment | None:
    waiting = deployments.serving(connection, environment, "embedder", name, state="pending")
    chosen = waiting or deployments.serving(connection, environment, "embedder", name)
    return chosen if chosen is not None and chosen.artifact is not None else None


def _tried(settings: Settings, wanted: Deployment) -> tuple[PromotedReranker | None, str]:
    """The model, loaded; or why it cannot be had: no search fails for that."""
    try:
        return _loaded(settings, wanted), ""
    except RagworksError as error:
        return None, str(error)
    except Exception as error:  # whatever a library raises for a file that is not what it was
        return None, f"{type(error).__name__}: {error}"


def _loaded(settings: Settings, wanted: Deployment) -> PromotedReranker:
    from include.retrieval.rerank import open_reranker
    from include.retrieval.stage import warm

    model = open_reranker(wanted.artifact or "", settings)
    if model is None:
        raise BadConfiguration(f"reranker {wanted.version}", "its training left no model", "Promote another one")
    fitted: dict[str, Any] = wanted.settings
    made = PromotedReranker(model, wanted.version or 0, wanted.id, fitted.get("rerank_weight", model.weight))
    warm(made)
    return made

"""What every reranker offers, and which one a collection asks for."""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

from include.collection_file import CHAMPION
from include.embedding import models
from include.errors import BadData

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.config import Settings
    from include.store.pool import Pool
    from include.store.search import Hit

logger = logging.getLogger(__name__)

TRAINED = "artifacts:"  # how the name of a model begins that was trained here
MANIFEST = "ragworks.json"  # what such a model's folder says of itself


class FirstStage(TypedDict, total=False):
    """What the first stage said of a candidate; what it did not say is missing.

    :param rank: its place among the candidates, from 1.
    :param score: what it was ranked by; ``dense`` and ``lexical`` the parts of that.
    :param score_gap: how far it is below the best candidate's; ``dense_gap`` and ``lexical_gap`` the same of the parts.
    """

    rank: int
    score: float
    dense: float
    lexical: float
    score_gap: float
    dense_gap: float
    lexical_gap: float


class Reranker(Protocol):
    """A model that reads a question and a passage together. Making one is cheap; the model is loaded by the first text.

    ``name`` is what the collection file calls it. Two rerankers with the same ``fingerprint`` give the same scores.
    ``weight`` is the share of its score in the final one that was fitted for it, 0 to 1; None when nobody did. May be called
    from several threads.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def fingerprint(self) -> str: ...  # noqa: D102
    @property
    def weight(self) -> float | None: ...  # noqa: D102

    def score(self, query: str, texts: Sequence[str], found: Sequence[FirstStage] | None = None) -> list[float]:
        """One score a text, in the order of the texts; higher is better, on any scale.

        A text's score depends on nothing but the query, itself and its own ``found``: candidates are read in pieces.

        :param found: what the first stage said of each text; None where there was none.
        """
        ...


def first_stage_of(hits: Sequence[Hit]) -> list[FirstStage]:
    """What the first stage said of each candidate, for :meth:`Reranker.score`.

    :param hits: all candidates of the query, best first.
    """
    best = {part: max((hit.scores[part] for hit in hits if part in hit.scores), default=0.0) for part in ("dense", "lexical")}
    return [_said(hit, rank, hits[0].score, best) for rank, hit in enumerate(hits, 1)]


def _said(hit: Hit, rank: int, best_score: float, best: dict[str, float]) -> FirstStage:
    said = FirstStage(rank=rank, score=hit.score, score_gap=best_score - hit.score)
    if "dense" in hit.scores:
        said["dense"], said["dense_gap"] = hit.scores["dense"], best["dense"] - hit.scores["dense"]
    if "lexical" in hit.scores:
        said["lexical"], said["lexical_gap"] = hit.scores["lexical"], best["lexical"] - hit.scores["lexical"]
    return said


def open_reranker(spec: str, settings: Settings, pool: Pool | None = None, collection: str = "") -> Reranker | None:
    """The reranker that ``retrieval.reranker`` names; nothing heavy is imported yet, but for a champion.

    :param spec: ``champion``, a folder, a name on the hub, or a trained model: ``artifacts:models/…``.
    :param pool: for ``champion``: where the deployments are; ``collection`` whose champion it is.
    :return: None when the champion is asked for and there is none; the same object for the same model otherwise.
    :raises BadConfiguration: there is no such model, or it is not a reranker.
    :raises BadData: a trained model that is not as it was saved.
    :raises ServiceUnavailable: the hub does not answer and no copy is here.
    """
    if spec != CHAMPION:
        return _open(spec, settings)
    if pool is None:
        raise ValueError("the champion of which collection?")
    from include.registry.champions import reranker_champion

    return reranker_champion(settings, collection).get(pool)


@lru_cache(maxsize=8)  # as many as are loaded
def _open(spec: str, settings: Settings) -> Reranker:
    """By what the model's folder says of itself: a training writes there what kind it made, and the weight fitted for it."""
    model = _local(spec, settings)
    manifest = models.read_json(Path(model).expanduser(), MANIFEST)
    weight = _fitted_weight(spec, manifest)
    if manifest.get("kind") == "forest":
        from include.retrieval.forest import ForestReranker

        return ForestReranker(Path(model).expanduser(), name=spec, weight=weight)
    from include.retrieval.cross_encoder import CrossEncoderReranker

    return CrossEncoderReranker(model, name=spec, weight=weight)


def _local(spec: str, settings: Settings) -> str:
    """Where a trained model lies on this machine; any other name stands for itself."""
    if not spec.startswith(TRAINED):
        return spec
    from include.registry.artifacts import local_model

    return local_model(spec, settings)


def _fitted_weight(spec: str, manifest: dict[str, Any]) -> float | None:
    """The share in the final score that was fitted with the model; None when nobody did."""
    settings = manifest.get("settings")
    weight = settings.get("rerank_weight") if isinstance(settings, dict) else None
    if weight is None:
        return None
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1:
        why = f"its {MANIFEST} has the rerank_weight {weight!r}, which is not between 0 and 1"
        raise BadData(f"reranker {spec}", why, "Train it again, or set retrieval.rerank_weight and take it out of the file")
    return float(weight)

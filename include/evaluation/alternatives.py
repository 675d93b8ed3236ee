"""The table of embedders that were compared: quality, dimension, and what it costs to embed the collection with each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include.evaluation import report
from include.evaluation.asking import columns
from include.evaluation.challenge_report import MEASURE, TOP_K
from include.evaluation.comparison import verdict
from include.evaluation.latency import percentiles
from include.indexing.estimate import host
from include.store import chunks, rates

if TYPE_CHECKING:
    from include.evaluation.challenge_report import Measured
    from include.evaluation.contenders import Contender, Trial


def describe(trial: Trial, measured: Measured) -> list[dict[str, Any]]:
    """A row each of those that were asked every question, the best first."""
    old = columns(measured.whole["champion"], TOP_K)[MEASURE]
    rows = []
    for name, asked in measured.whole.items():
        contender, new = measured.contenders[name], columns(asked, TOP_K)[MEASURE]
        against = verdict([b - a for a, b in zip(old, new, strict=True)]).as_dict() if name != "champion" else None
        rows.append(
            {
                "side": name,
                "label": contender.label,
                "dimension": contender.generation.dimension,
                "measures": report.measures(asked, TOP_K),
                "against_champion": against,
                "one_client": percentiles([one.milliseconds for one in asked]),
                **_cost(trial, contender),
            }
        )
    return sorted(rows, key=lambda row: -row["measures"][MEASURE]["value"])


def _cost(trial: Trial, contender: Contender) -> dict[str, Any]:
    """Of embedding the whole collection once: money of an endpoint, seconds of this machine."""
    with trial.pool.connection() as connection:
        tokens = chunks.count_tokens(connection, contender.generation)
        rate = rates.tokens_per_second(connection, host(), contender.generation.embedder)
    price = _price(trial, contender)
    return {
        "tokens": tokens,
        "price_per_million_tokens": price,
        "cost": None if price is None else round(tokens * price / 1e6, 4),
        "seconds": round(tokens / rate, 1) if rate else None,
    }


def _price(trial: Trial, contender: Contender) -> float | None:
    """From the collection file: what a model costs is no part of an index's spec."""
    embedding = contender.generation.spec["embedding"]
    for one in (trial.collection.embedding, *trial.collection.training.alternatives):
        if (one.model, one.backend, one.base_url) == (embedding["model"], embedding["backend"], embedding.get("base_url")):
            return one.price_per_million_tokens
    return None

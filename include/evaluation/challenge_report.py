"""Puts together what a comparison of models found, as JSON: the gate decides by it, the model's page draws it.

Scores are kept query by query, so that the decision can be made again, or by another rule. Questions stand in it only where
somebody wants to read them, under the documents that answer them, by which `forget` finds them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from include.embedding.device import nearest
from include.errors import BadData
from include.evaluation import report
from include.evaluation.asking import columns
from include.evaluation.cases import Cases, slices, unsliced
from include.evaluation.measures import measure_names
from include.hashing import text_hash
from include.store import comparable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from include.evaluation.asking import Asked
    from include.evaluation.contenders import Contender, Trial
    from include.retrieval.rerank import Reranker
    from include.store.generations import Generation

TOP_K = 10
MEASURE = measure_names(TOP_K)[0]
MAX_QUERIES = 1_000  # of a larger golden set always the same ones
CONTROL = 200  # questions that the champion is asked twice: enough to see whether search repeats itself
TOLD = 8  # questions told of each kind: lost, won
SHOWN = 200  # characters of a question


@dataclass(slots=True)
class Measured:
    """What was asked and what came back.

    :param whole: contenders that were asked every question, the champion first, then the challenger; ``part`` the first ones
        alone. Each with what every question gave.
    """

    cases: Cases
    contenders: dict[str, Contender] = field(default_factory=dict)
    whole: dict[str, list[Asked]] = field(default_factory=dict)
    part: dict[str, list[Asked]] = field(default_factory=dict)
    latency: dict[str, dict[str, Any]] = field(default_factory=dict)


def cases_for(trial: Trial, built: Generation) -> Cases:
    """The golden queries that the live generation and another one can both be asked; the same ones each time.

    :raises BadData: there are none.
    """
    with trial.pool.connection() as connection:
        live = trial.live.id if built.id != trial.live.id else None
        known = comparable.usable_queries(connection, trial.run.collection_id, built.id, live, limit=MAX_QUERIES)
    usable = tuple(query for query in known if query.spans)
    if not usable:
        why = f"no answer of its {len(known)} golden queries is in the index" if known else "it has no golden queries"
        raise BadData(
            f"models of {trial.name} cannot be compared", why, f"Add some with `ragworks golden {trial.name} --import FILE`"
        )
    return Cases("golden", tuple(query.query for query in usable), usable, (), len(known) - len(usable))


def heading(
    trial: Trial,
    champion: Contender,
    challenger: Contender,
    fingerprints: tuple[str | None, str],
    serving: Reranker | None,
) -> dict[str, Any]:
    """What is compared with what; enough for the gate when the two are the same.

    :param fingerprints: of champion and challenger, of what the family trains.
    :param serving: the second stage that searches have now.
    """
    sides = {}
    for contender, fingerprint in zip((champion, challenger), fingerprints, strict=True):
        facts = contender.facts(trial)
        weight = facts["reranker"]["weight"] if trial.run.family == "reranker" and facts["reranker"] else None
        sides[contender.name] = {**facts, "fingerprint": fingerprint, "weight": weight}
    return {
        "family": trial.run.family,
        "collection": trial.name,
        "environment": trial.settings.environment,
        "measure": MEASURE,
        "top_k": TOP_K,
        "serving": {"embedder": trial.live.embedder, "reranker": serving.fingerprint if serving else None},
        **sides,
        "asked_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def assemble(trial: Trial, head: Mapping[str, Any], measured: Measured) -> dict[str, Any]:
    """The whole of it."""
    cases, whole = measured.cases, measured.whole
    champion, challenger = whole["champion"], whole["challenger"]
    by_metadata = slices(cases.queries)
    found = dict(head)
    for name in ("champion", "challenger"):
        found[name] = {**head[name], "measures": report.measures(whole[name], TOP_K)}
    compared = report.comparison(champion, challenger, by_metadata, TOP_K)
    return found | {
        "questions": {"origin": "golden", "queries": len(cases.queries), "left_out": cases.left_out},
        "comparison": compared,
        "summary": compared["summary"],
        "a_a": report.control(champion[: len(measured.part["champion_again"])], measured.part["champion_again"], TOP_K),
        "sides": {
            name: {**contender.facts(trial), "measures": _means(measured, name)}
            for name, contender in measured.contenders.items()
        },
        "scores": _scores(measured),
        "slices": by_metadata,
        "unsliced": unsliced(cases.queries),
        "latency": {
            "clients": trial.collection.training.clients,
            "device": nearest(trial.collection.training.latency_device).partition(":")[0],
            "budget_ms": trial.collection.retrieval.latency_budget_ms,
            "sides": measured.latency,
        },
        "told": {"lost": _told(measured, -1), "won": _told(measured, 1)},
    }


def _means(measured: Measured, name: str) -> dict[str, Any]:
    return report.measures(measured.whole.get(name) or measured.part[name], TOP_K)


def _scores(measured: Measured) -> dict[str, Any]:
    """All measures of the two that are compared, the deciding one of the others; None where it was not asked."""
    queries = measured.cases.queries
    sides: dict[str, dict[str, list[float | None]]] = {}
    for name, asked in {**measured.whole, **measured.part}.items():
        of_side = columns(asked, TOP_K)
        kept = of_side if name in ("champion", "challenger") else {MEASURE: of_side[MEASURE]}
        missing: list[float | None] = [None] * (len(queries) - len(asked))
        sides[name] = {measure: [_number(score) for score in column] + missing for measure, column in kept.items()}
    return {"query_hashes": [text_hash(query.query).hex for query in queries], "sides": sides}


def _number(score: float) -> float | None:
    """To four places; JSON has no NaN, and the gate refuses a score that is none."""
    return round(score, 4) if math.isfinite(score) else None


def _told(measured: Measured, sign: int) -> list[dict[str, Any]]:
    """The questions that the challenger loses, or wins, by most: what a person wants to see before a click."""
    pairs = zip(measured.cases.queries, measured.whole["champion"], measured.whole["challenger"], strict=True)
    moved = [(sign * (new.scores[MEASURE] - old.scores[MEASURE]), query, old, new) for query, old, new in pairs]
    most = sorted((one for one in moved if one[0] > 0), key=lambda one: -one[0])[:TOLD]
    return [
        {
            "query": query.query[:SHOWN],
            "champion": _number(old.scores[MEASURE]),
            "challenger": _number(new.scores[MEASURE]),
            "documents": list(dict.fromkeys(span.document for span in query.spans)),
        }
        for _, query, old, new in most
    ]


def first(asked: Sequence[Asked], count: int) -> list[Asked]:
    """What the first questions gave."""
    return list(asked[:count])

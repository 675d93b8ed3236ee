"""Compares a trained embedder with the one that serves, its base and the alternatives that a collection names.

Each is asked on an index of its own (:mod:`include.indexing.candidate`), so that what is compared is the whole search and not
vectors alone. Those of the base and the alternatives are kept for the next training: an endpoint is paid once for a text.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from include.embedding.embedder import open_embedder
from include.errors import RagworksError
from include.evaluation.alternatives import describe
from include.evaluation.asking import ask, columns
from include.evaluation.challenge_report import CONTROL, MEASURE, TOP_K, Measured, assemble, cases_for, first, heading
from include.evaluation.comparison import verdict
from include.evaluation.contenders import Contender, serving_reranker, trained
from include.evaluation.timing import first_search, under_load
from include.indexing.candidate import build_candidate, drop_candidates
from include.registry.gate_scores import CHALLENGER_PAIR, CHAMPION_PAIR
from include.store.generations import REFERENCE

if TYPE_CHECKING:
    from include.collection_file import Embedding
    from include.evaluation.contenders import Trial
    from include.retrieval.rerank import Reranker
    from include.store.golden import GoldenQuery

logger = logging.getLogger(__name__)

MATRIX = 300  # questions that are asked with the second stage too: reading candidates is what takes longest


def compare_embedders(trial: Trial) -> dict[str, Any]:
    """The sides: ``champion`` (the live index), ``challenger``, ``base`` and ``alternative_<n>``, all with one stage.

    Where a reranker serves also ``champion_reranked`` and ``challenger_reranked``, with it; these are timed too.
    """
    embedding = _here(trial, trial.run.artifact or "")
    model = open_embedder(embedding, trial.settings)
    champion = Contender("champion", trial.live.spec["embedding"]["model"], trial.live)
    reranker = serving_reranker(trial.settings, trial.pool, trial.collection)
    if model.fingerprint == trial.live.embedder:
        same = Contender("challenger", trained(trial), trial.live)
        head = heading(trial, champion, same, (model.fingerprint, model.fingerprint), reranker)
        return head | {"summary": "the challenger is the champion"}
    query = cases_for(trial, trial.live).queries[0].query
    started = time.monotonic()
    model.embed_query(query)
    loaded = time.monotonic() - started
    built = build_candidate(
        trial.settings, trial.pool, trial.name, embedding, run_key=trial.run.run_key, progress=trial.progress, embedder=model
    )
    challenger = Contender("challenger", trained(trial), built, model)
    head = heading(trial, champion, challenger, (trial.live.embedder, model.fingerprint), reranker)
    others, problems = _others(trial, {trial.live.embedder, model.fingerprint})
    measured = Measured(cases_for(trial, built))
    contenders = [champion, challenger, *others]
    measured.contenders = {contender.name: contender for contender in contenders}
    queries = measured.cases.queries
    cold = {"champion": first_search(trial, champion, query, top_k=TOP_K),
            "challenger": first_search(trial, challenger, query, top_k=TOP_K, before=loaded)}  # fmt: skip
    asked = ask([c.side(trial) for c in contenders], queries, top_k=TOP_K, progress=trial.progress)
    measured.whole = dict(zip(measured.contenders, asked, strict=True))
    (again,) = ask([champion.side(trial)], queries[:CONTROL], top_k=TOP_K, progress=trial.progress)
    measured.part["champion_again"] = again
    matrix = _matrix(trial, measured, reranker) if reranker else None
    pairs = [measured.contenders[name] for name in (CHAMPION_PAIR, CHALLENGER_PAIR)] if reranker else []
    measured.latency = under_load(trial, [champion, challenger, *pairs], queries, top_k=TOP_K, cold_ms=cold)
    return assemble(trial, head, measured) | {
        "served_reranker": reranker.name if reranker else None,
        "matrix": matrix,
        "alternatives": [*describe(trial, measured), *problems],
    }


def _here(trial: Trial, model: str) -> Embedding:
    """The collection's section with a model that runs here."""
    update = {"model": model, "backend": "torch", "base_url": None, "price_per_million_tokens": None}
    return trial.collection.embedding.model_copy(update=update)


def _references(trial: Trial) -> list[tuple[str, Embedding]]:
    """What every challenger is compared with: the model that its training started from, and the alternatives."""
    alternatives = enumerate(trial.collection.training.alternatives, 1)
    return [("base", _here(trial, trial.run.base)), *((f"alternative_{n}", one) for n, one in alternatives)]


def _others(trial: Trial, known: set[str]) -> tuple[list[Contender], list[dict[str, Any]]]:
    """Contenders with an index each, and what is to say of those that cannot be asked: they decide nothing.

    :param known: fingerprints of embedders that are asked anyway.
    """
    contenders, problems, seen = [], [], set(known)
    for name, embedding in _references(trial):
        try:
            model = open_embedder(embedding, trial.settings)
            if model.fingerprint in seen:
                continue
            seen.add(model.fingerprint)
            built = build_candidate(
                trial.settings, trial.pool, trial.name, embedding, run_key=REFERENCE, progress=trial.progress, embedder=model
            )
            contenders.append(Contender(name, embedding.model, built, model))
        except RagworksError as error:
            logger.warning("%s cannot be compared: %s", embedding.model, error)
            problems.append({"side": name, "label": embedding.model, "problem": str(error)})
    if not problems:  # else one that cannot be asked today would be embedded again tomorrow
        keep = [contender.generation.id for contender in contenders]
        drop_candidates(trial.pool, trial.run.collection_id, run_key=REFERENCE, keep=keep)
    return contenders, problems


def _matrix(trial: Trial, measured: Measured, reranker: Reranker) -> dict[str, Any]:
    """Old and new embedder, without and with the reranker that serves: what users get is a pair."""
    pairs = [
        Contender(f"{name}_reranked", f"{one.label}, reranked", one.generation, one.embedder, reranker)
        for name, one in measured.contenders.items()
        if name in ("champion", "challenger")
    ]
    queries: tuple[GoldenQuery, ...] = measured.cases.queries[: max(MATRIX, trial.collection.training.min_queries)]
    found = ask([c.side(trial) for c in pairs], queries, top_k=TOP_K, progress=trial.progress)
    for contender, asked in zip(pairs, found, strict=True):
        measured.contenders[contender.name] = contender
        measured.part[contender.name] = asked
    alone = [first(measured.whole[name], len(queries)) for name in ("champion", "challenger")]
    old, new, old_pair, new_pair = (columns(asked, TOP_K)[MEASURE] for asked in (*alone, *found))
    gain, pair_gain = ([b - a for a, b in zip(*sides, strict=True)] for sides in ((old, new), (old_pair, new_pair)))
    return {
        "reranker": reranker.name,
        "queries": len(queries),
        "old": {"without": _mean(old), "with": _mean(old_pair)},
        "new": {"without": _mean(new), "with": _mean(new_pair)},
        "embedder": verdict(gain).as_dict(),
        "pair": verdict(pair_gain).as_dict(),
        "interaction": verdict([b - a for a, b in zip(gain, pair_gain, strict=True)]).as_dict(),
    }


def _mean(values: list[float]) -> float:
    return round(sum(values) / len(values), 4)

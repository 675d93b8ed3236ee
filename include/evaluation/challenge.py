"""Scores what serves now and the challenger that was trained to replace it, in one run and on the same questions.

Both functions read the training's row and write what they found there; nothing else passes between them and the gate. The
questions are the collection's golden queries, which no training sees.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg

from include.errors import BadData, Transient
from include.evaluation import report
from include.evaluation.asking import ask
from include.evaluation.cases import slices
from include.evaluation.challenge_report import TOP_K, cases_for
from include.evaluation.contenders import Contender, open_trial, serving_reranker
from include.evaluation.timing import first_search, under_load
from include.store import model_runs

if TYPE_CHECKING:
    from include.config import Settings
    from include.evaluation.contenders import Trial
    from include.progress import Progress
    from include.store.pool import Pool

logger = logging.getLogger(__name__)


def baseline(settings: Settings, pool: Pool, run_key: str, *, progress: Progress) -> dict[str, Any]:
    """How good and how quick search is now, before anything is trained; kept in the training's row.

    :return: questions, serving, measures, slices, latency, seconds.
    :raises BadData: fewer golden queries can be asked than the gate wants: nothing is trained for nothing.
    """
    trial = open_trial(settings, pool, run_key, progress)
    found = _baseline_llm(trial) if trial.run.family == "llm" else _baseline_of_search(settings, pool, trial)
    found["asked_at"] = datetime.now(UTC).isoformat(timespec="seconds")
    with pool.connection() as connection:
        model_runs.change(connection, trial.run.id, baseline=found)
    measure, value = next((name, one["value"]) for name, one in found["measures"].items())
    logger.info("%s, before training: %s %.4f", trial.name, measure, value)
    return found


def _baseline_llm(trial: Trial) -> dict[str, Any]:
    from include.evaluation.llm.challenge import baseline_llm

    return baseline_llm(trial)


def _baseline_of_search(settings: Settings, pool: Pool, trial: Trial) -> dict[str, Any]:
    progress = trial.progress
    cases = cases_for(trial, trial.live)
    least = trial.collection.training.min_queries
    if len(cases.queries) < least:
        raise BadData(
            f"{trial.name} has {len(cases.queries)} golden queries that can be asked",
            f"a model is judged by at least {least}, so nothing that is trained could be put to work",
            f"Add some with `ragworks golden {trial.name}`, or lower training.min_queries",
        )
    reranker = serving_reranker(settings, pool, trial.collection)
    now = Contender("serving", "what serves now", trial.live, reranker=reranker)
    cold = {now.name: first_search(trial, now, cases.queries[0].query, top_k=TOP_K)}
    (asked,) = ask([now.side(trial)], cases.queries, top_k=TOP_K, progress=progress)
    return {
        "questions": {"queries": len(cases.queries), "left_out": cases.left_out},
        "serving": now.facts(trial),
        "measures": report.measures(asked, TOP_K),
        "slices": report.slice_tables(asked, slices(cases.queries), TOP_K),
        "latency": under_load(trial, [now], cases.queries, top_k=TOP_K, cold_ms=cold)[now.name],
    }


def evaluate_challenger(settings: Settings, pool: Pool, run_key: str, *, progress: Progress) -> dict[str, Any]:
    """Ask champion and challenger now, score and time both, and keep it in the training's row, which is ``evaluated`` then.

    Again it is all measured again, for what serves may have changed. What was judged stays as it is, but of a winner that was
    compared with another than serves by now: that has proved nothing, and goes back to ``trained`` first. A training that
    failed after it had left a model can be evaluated too.

    :return: see docs/gates.md.
    :raises BadData: it is not trained yet, no golden query can be asked, or its embedder's vectors are refused.
    :raises BadConfiguration: the model does not open, or gives no numbers.
    :raises Transient: an index was dropped meanwhile.
    """
    from include.registry.compared import is_overtaken

    trial = open_trial(settings, pool, run_key, progress)
    run = trial.run
    if run.state in model_runs.ENDED and run.evaluation is not None:
        if run.state == "refused" or not is_overtaken(settings, pool, trial.name, run):
            return run.evaluation
        with pool.connection() as connection:
            model_runs.change(connection, run.id, state="trained", gate=None, evaluation=None)
    elif run.state not in ("trained", "evaluated", "failed") or run.artifact is None:
        raise BadData(
            f"training {run_key} cannot be evaluated", f"it is {run.state}, and has left no model yet", "Train it first"
        )
    try:
        found = _compare(trial)
    except psycopg.errors.UndefinedTable as error:
        raise Transient(f"training {run_key} was not evaluated", "an index was dropped meanwhile", "Run again") from error
    with pool.connection() as connection:
        model_runs.change(connection, run.id, evaluation=found, state="evaluated", error=None)
    logger.info("training %s of %s: %s", run_key, trial.name, found["summary"])
    return found


def _compare(trial: Trial) -> dict[str, Any]:
    if trial.run.family == "reranker":
        from include.evaluation.challenge_reranker import compare_rerankers

        return compare_rerankers(trial)
    if trial.run.family == "llm":
        from include.evaluation.llm.challenge import compare_llms

        return compare_llms(trial)
    from include.evaluation.challenge_embedder import compare_embedders

    return compare_embedders(trial)

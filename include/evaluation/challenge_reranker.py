"""Compares a trained reranker with the second stage that serves, and with none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from include.errors import BadData
from include.evaluation.asking import ask
from include.evaluation.challenge_report import CONTROL, TOP_K, Measured, assemble, cases_for, heading
from include.evaluation.contenders import Contender, blend_weight, serving_reranker, trained
from include.evaluation.timing import first_search, under_load
from include.retrieval.rerank import open_reranker

if TYPE_CHECKING:
    from include.evaluation.contenders import Trial
    from include.retrieval.rerank import Reranker


def compare_rerankers(trial: Trial) -> dict[str, Any]:
    """The sides: ``champion`` (without one: the first stage alone), ``challenger``, and ``first_stage`` beside a champion.

    Both read ``retrieval.rerank_candidates`` and are blended with the weight that serving would take.
    """
    champion = _contender("champion", trial, serving_reranker(trial.settings, trial.pool, trial.collection))
    challenger = replace(_contender("challenger", trial, _challenger(trial)), label=trained(trial))
    old, new = champion.reranker, challenger.reranker
    if new is None:
        raise BadData(f"training {trial.run.run_key}", "it left no reranker", "Train it again")
    head = heading(trial, champion, challenger, (old.fingerprint if old else None, new.fingerprint), old)
    if old is not None and (old.fingerprint, blend_weight(trial, old)) == (new.fingerprint, blend_weight(trial, new)):
        return head | {"summary": "the challenger is the champion"}
    measured = Measured(cases_for(trial, trial.live))
    contenders = [champion, challenger]
    if old is not None:
        contenders.append(_contender("first_stage", trial, None))
    measured.contenders = {contender.name: contender for contender in contenders}
    queries = measured.cases.queries
    cold = {c.name: first_search(trial, c, queries[0].query, top_k=TOP_K) for c in contenders}
    asked = ask([c.side(trial) for c in contenders], queries, top_k=TOP_K, progress=trial.progress)
    measured.whole = dict(zip(measured.contenders, asked, strict=True))
    (again,) = ask([champion.side(trial)], queries[:CONTROL], top_k=TOP_K, progress=trial.progress)
    measured.part["champion_again"] = again
    measured.latency = under_load(trial, contenders, queries, top_k=TOP_K, cold_ms=cold)
    return assemble(trial, head, measured)


def _challenger(trial: Trial) -> Reranker | None:
    return open_reranker(trial.run.artifact or "", trial.settings)


def _contender(name: str, trial: Trial, reranker: Reranker | None) -> Contender:
    label = "first stage alone" if reranker is None else reranker.name
    return Contender(name, label, trial.live, reranker=reranker)

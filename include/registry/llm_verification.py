"""Asks a language model a few questions after its promotion: through the server of champions where it runs, else here."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from include.answering.champion import ChampionLLM, Maker
from include.collection_file import load_collection
from include.errors import ServiceUnavailable, Transient
from include.evaluation.latency import percentiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.answering.llm import LLM
    from include.config import Settings
    from include.evaluation.llm.questions import Question, Reply
    from include.store.deployments import Deployment
    from include.store.model_runs import ModelRun
    from include.store.pool import Pool

logger = logging.getLogger(__name__)

QUESTIONS = 20
LEAST = 10  # questions below which a mean says nothing
COLLAPSE = 0.5  # of the score that the gate saw: a sample scatters, a broken model falls far below
TIMES_BUDGET = 2
LOCAL = "local"


def problems(replies: Sequence[Reply], expected: float | None, limit_ms: float) -> list[str]:
    """What speaks against it; nothing when it may stay. Pure.

    :param expected: the mean score that the gate saw; None: it was not measured.
    """
    if not replies:
        return ["no question could be asked: there is no golden query that can be, and no held-out conversation"]
    found = []
    empty = sum(not reply.text for reply in replies)
    if empty:
        found.append(f"{empty} of {len(replies)} answers are empty")
    mean = _mean(replies)
    if expected is not None and len(replies) >= LEAST and mean < COLLAPSE * expected:
        found.append(f"the score is {mean:.3f} on {len(replies)} questions, {expected:.3f} was expected")
    slow = percentiles([reply.milliseconds for reply in replies])["p95_ms"]
    if slow > limit_ms:
        found.append(f"95 of 100 answers took up to {slow:,.0f} ms, more than {limit_ms:,.0f}")
    return found


def smoke_llm(settings: Settings, pool: Pool, name: str, live: Deployment, run: ModelRun) -> tuple[dict[str, Any], list[str]]:
    """Ask, and say what speaks against the model.

    :return: questions, score, expected, p95_ms, limit_ms, asked (address, or here); and the problems.
    :raises BadData: adapter or base are not what was promoted.
    :raises BadConfiguration: another model answers than the promoted one.
    :raises Transient: the server does not answer, and models are not run on this machine.
    """
    from include.registry.llm_models import open_trained

    open_trained(settings, run.artifact, run.base, fingerprint=run.fingerprint)
    questions = _questions(settings, pool, run)
    replies, where = _through_server(settings, name, live, run, questions)
    limit = TIMES_BUDGET * load_collection(settings, name).training.answer_budget_ms
    expected = _expected(run, questions)
    told = {
        "questions": len(replies),
        "score": round(_mean(replies), 4) if replies else None,
        "expected": expected,
        "p95_ms": percentiles([reply.milliseconds for reply in replies])["p95_ms"] if replies else 0.0,
        "limit_ms": float(limit),
        "asked": where,
        "passport": {"llm": {"base": run.base, "adapter": run.fingerprint, "version": live.version}},
    }
    return told, problems(replies, expected, limit)


def _questions(settings: Settings, pool: Pool, run: ModelRun) -> list[Question]:
    """Half golden queries, half held-out conversations, as far as there are both."""
    from include.evaluation.contenders import open_trial
    from include.evaluation.llm.questions import golden_questions, held_out, questions_of
    from include.progress import Silent

    trial = open_trial(settings, pool, run.run_key, Silent())
    golden, _ = golden_questions(trial, limit=QUESTIONS)
    rest = questions_of(held_out(trial, "test", QUESTIONS), trial.collection)
    half = QUESTIONS // 2
    first = golden[: max(half, QUESTIONS - len(rest))]
    return [*first, *rest[: QUESTIONS - len(first)]]


def _through_server(
    settings: Settings, name: str, live: Deployment, run: ModelRun, questions: Sequence[Question]
) -> tuple[list[Reply], str]:
    server = ChampionLLM(settings, Maker.of(name, live))
    try:
        return [question.ask(server) for question in questions], server.base_url
    except ServiceUnavailable as error:
        if settings.compute != LOCAL:
            raise Transient(
                f"llm {live.version} of {name} could not be verified", f"the server of champions does not answer ({error})",
                "Start it (docs/llm-serving.md), and verify again",
            ) from error  # fmt: skip
        logger.info("no server of champions answers at %s: llm %s is asked here", server.base_url, live.version)
    return _here(settings, run, questions), "here"


def _here(settings: Settings, run: ModelRun, questions: Sequence[Question]) -> list[Reply]:
    from include.evaluation.llm.writer import LocalLLM, Writer
    from include.registry.llm_models import open_trained

    found = open_trained(settings, run.artifact, run.base, fingerprint=run.fingerprint)
    llm: LLM = LocalLLM(Writer(found.base, {"promoted": found.adapter}), "promoted")
    return [question.ask(llm) for question in questions]


def _expected(run: ModelRun, questions: Sequence[Question]) -> float | None:
    """What the gate saw of the same tasks, weighted as they are asked here; None where it saw none."""
    evaluation = run.evaluation or {}
    tasks = (evaluation.get("slices") or {}).get("task") or {}
    scores = ((evaluation.get("scores") or {}).get("sides") or {}).get("challenger", {}).get(evaluation.get("measure"))
    if not scores or not questions or any(question.task not in tasks for question in questions):
        return None
    means: dict[str, float] = {task: sum(scores[p] for p in places) / len(places) for task, places in tasks.items()}
    return round(sum(means[question.task] for question in questions) / len(questions), 4)


def _mean(replies: Sequence[Reply]) -> float:
    return sum(reply.score for reply in replies) / len(replies)

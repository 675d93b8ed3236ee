"""Compares a trained language model with the one that serves, or with its bare base: the same questions, now, in turns."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING, Any

from include.answering.llm import open_llm
from include.answering.prompts import load_prompt
from include.errors import BadData
from include.evaluation.llm import report
from include.evaluation.llm.contenders import challenger_of, champion_of, open_writers
from include.evaluation.llm.guarded import MAX_TOKENS, SETS, guarded, score_guarded
from include.evaluation.llm.learned import learned_of
from include.evaluation.llm.preference import MAX_JUDGED, describe, prefer
from include.evaluation.llm.questions import GOLDEN, golden_questions, held_out, questions_of
from include.evaluation.llm.scores import UNANSWERABLE
from include.evaluation.llm.writer import LocalLLM

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from include.evaluation.contenders import Trial
    from include.evaluation.llm.questions import Question, Reply
    from include.evaluation.llm.writer import Writer

logger = logging.getLogger(__name__)

CONTROL = 50  # questions that the champion answers twice
OLD, NEW = "champion", "challenger"


def baseline_llm(trial: Trial) -> dict[str, Any]:
    """How well and how quickly what serves answers, before anything is trained.

    :return: questions, serving, measures, slices, latency.
    :raises BadData: fewer questions than the gate wants.
    """
    questions, counts = _questions(trial)
    model = champion_of(trial.settings, trial.pool, trial.run)
    writers = open_writers({OLD: model})
    asked = _asked(writers, questions, trial)[OLD]
    return {
        "questions": counts,
        "serving": model.facts,
        "measures": report.measures(asked),
        "slices": report.slice_means(questions, asked),
        "latency": report.latency(asked, writers[OLD].seconds * 1000),
        "precision": writers[OLD].precision,
    }


def compare_llms(trial: Trial) -> dict[str, Any]:
    """The sides: ``champion`` (the promoted model, else the base alone) and ``challenger``; see docs/llm-evaluation.md."""
    sides = {OLD: champion_of(trial.settings, trial.pool, trial.run), NEW: challenger_of(trial.settings, trial.run)}
    head = report.heading(trial, sides)
    if sides[OLD].fingerprint == sides[NEW].fingerprint:
        return head | {"summary": "the challenger is the champion"}
    questions, counts = _questions(trial)
    writers = open_writers(sides)
    cold = {name: writer.seconds * 1000 for name, writer in writers.items()}
    asked = _asked(writers, questions, trial)
    again = _asked({OLD: writers[OLD]}, questions[:CONTROL], trial)[OLD]
    return report.assemble(trial, head, questions, asked, again, cold) | {
        "questions": counts,
        "guarded": {name: _guarded(name, writers, trial) for name in SETS},
        "held_out": _held_out(writers, questions, trial),
        "judge": _judged(trial, questions, asked),
        "precision": {name: writer.precision for name, writer in writers.items()},
    }


def _questions(trial: Trial) -> tuple[list[Question], dict[str, Any]]:
    """Golden queries first, then held-out conversations, without those that the model was trained on; and their counts.

    :raises BadData: fewer than the gate wants.
    """
    golden, left_out = golden_questions(trial)
    every = [*golden, *questions_of(held_out(trial, "test"), trial.collection)]
    learned = learned_of(trial, [(one.text, one.right if one.task != UNANSWERABLE else None) for one in every])
    questions = [question for place, question in enumerate(every) if place not in learned]
    if learned:
        logger.warning("%s: %d questions are not asked: the model or an adapter in it learned them", trial.name, len(learned))
    least = trial.collection.training.min_queries
    if len(questions) < least:
        of_golden = sum(question.query is not None for question in questions)
        without = f", without {len(learned)} that the model or an adapter in it was trained on" if learned else ""
        raise BadData(
            f"{trial.name} has {len(questions)} questions for a language model: {of_golden} golden queries and"
            f" {len(questions) - of_golden} held-out conversations{without}",
            f"a model is judged by at least {least}, so nothing that is trained could be put to work",
            f"Add golden queries with `ragworks golden {trial.name}`, build the dataset with a larger test_share, or lower"
            " training.min_queries",
        )
    return questions, report.counts(questions, left_out) | {"learned": len(learned)}


def _asked(writers: Mapping[str, Writer], questions: Sequence[Question], trial: Trial) -> dict[str, list[Reply]]:
    """Side → what each question gave. Asked in random order, the sides in turns: a slow minute hits both."""
    llms = {name: LocalLLM(writer, name) for name, writer in writers.items()}
    order = list(range(len(questions)))
    random.Random(0).shuffle(order)
    found: dict[str, dict[int, Reply]] = {name: {} for name in writers}
    trial.progress.step("answer", len(questions))
    for turn, position in enumerate(order):
        names = list(writers)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            found[name][position] = questions[position].ask(llms[name])
        trial.progress.advance(1)
    return {name: [replies[position] for position in range(len(questions))] for name, replies in found.items()}


def _guarded(name: str, writers: Mapping[str, Writer], trial: Trial) -> dict[str, Any]:
    prompts, prompt = guarded(name), load_prompt(trial.collection.answers.prompt)
    learned = learned_of(trial, [(one.prompt, None) for one in prompts])
    prompts = tuple(one for place, one in enumerate(prompts) if place not in learned)
    trial.progress.step(name, len(prompts))
    scores: dict[str, list[float]] = {side: [] for side in writers}
    for one in prompts:
        for side, writer in writers.items():
            scores[side].append(score_guarded(writer.write(side, one.messages, MAX_TOKENS).text, one, prompt))
        trial.progress.advance(1)
    return report.guarded_table([one.kind for one in prompts], scores[OLD], scores[NEW]) | {"learned": len(learned)}


def _held_out(writers: Mapping[str, Writer], questions: Sequence[Question], trial: Trial) -> dict[str, Any] | None:
    """Loss of held-out answers under both; None where there are no such conversations."""
    rows = [question.row for question in questions if question.row is not None]
    if not rows:
        return None
    trial.progress.step("losses", 2)
    losses = {}
    for side, writer in writers.items():
        losses[side] = writer.losses(side, rows)
        trial.progress.advance(1)
    return report.losses(losses[OLD], losses[NEW])


def _judged(trial: Trial, questions: Sequence[Question], asked: Mapping[str, Sequence[Reply]]) -> dict[str, Any] | None:
    """What the environment's LLM says of golden answers that differ, or why it was not asked; None where no LLM is set."""
    llm = open_llm(trial.settings)
    if llm is None:
        return None
    if llm.model.startswith("ragworks-"):
        logger.warning("the judge is not asked: RAGWORKS_LLM_MODEL is %s, one of the models to be judged", llm.model)
        return {"model": llm.model, "why": "it is one of the models that are judged"}
    answerable = [n for n, question in enumerate(questions) if question.task == GOLDEN][:MAX_JUDGED]
    trial.progress.step("judge", len(answerable))
    found = []
    for n in answerable:
        found.append(prefer(llm, questions[n].text, questions[n].right, asked[OLD][n].text, asked[NEW][n].text))
        trial.progress.advance(1)
    return describe(found, llm.model) if found else {"model": llm.model, "why": "there is no golden query with an answer"}

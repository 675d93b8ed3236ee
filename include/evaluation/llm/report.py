"""Puts together what a comparison of language models found, in the shape that the gate reads of every family.

Scores are kept question by question; texts only of questions under documents, by which ``forget`` finds them.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from include.evaluation.bootstrap import intervals
from include.evaluation.comparison import compare, verdict
from include.evaluation.contenders import serving_now
from include.evaluation.latency import CURVE, percentiles
from include.evaluation.report import histogram
from include.hashing import text_hash

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from include.evaluation.contenders import Trial
    from include.evaluation.llm.contenders import Model
    from include.evaluation.llm.questions import Question, Reply

MEASURE = "score"
TOLD, SHOWN = 8, 200


def heading(trial: Trial, sides: Mapping[str, Model]) -> dict[str, Any]:
    """What is compared with what; enough for the gate when the two are the same."""
    return {
        "family": trial.run.family,
        "collection": trial.name,
        "environment": trial.settings.environment,
        "measure": MEASURE,
        "top_k": trial.collection.answers.passages,
        "serving": serving_now(trial.settings, trial.pool, trial.name, trial.run.family),
        **{name: model.facts for name, model in sides.items()},
        "asked_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def assemble(
    trial: Trial,
    head: Mapping[str, Any],
    questions: Sequence[Question],
    asked: Mapping[str, Sequence[Reply]],
    again: Sequence[Reply],
    cold_ms: Mapping[str, float],
) -> dict[str, Any]:
    """All that rests on the answers to the questions."""
    tasks = tasks_of(questions)
    scores = {name: [reply.score for reply in replies] for name, replies in asked.items()}
    compared = _comparison(scores["champion"], scores["challenger"], tasks)
    repeated: list[float | None] = [round(reply.score, 4) for reply in again]
    padded = repeated + [None] * (len(questions) - len(again))
    sides = {name: {MEASURE: [round(score, 4) for score in column]} for name, column in scores.items()}
    found = dict(head)
    for name in ("champion", "challenger"):
        found[name] = {**head[name], "measures": measures(asked[name])}
    return found | {
        "comparison": compared,
        "summary": compared["summary"],
        "a_a": _control([reply.score for reply in asked["champion"][: len(again)]], [reply.score for reply in again]),
        "scores": {
            "query_hashes": [text_hash(question.text).hex for question in questions],
            "sides": {**sides, "champion_again": {MEASURE: padded}},
        },
        "slices": {"task": tasks},
        "latency": {
            "clients": 1,
            "budget_ms": trial.collection.training.answer_budget_ms,
            "sides": {name: latency(replies, cold_ms[name]) for name, replies in asked.items()},
        },
        "told": {"lost": _told(questions, asked, -1), "won": _told(questions, asked, 1)},
    }


def tasks_of(questions: Sequence[Question]) -> dict[str, list[int]]:
    """Task → positions of its questions."""
    tasks: dict[str, list[int]] = {}
    for position, question in enumerate(questions):
        tasks.setdefault(question.task, []).append(position)
    return tasks


def counts(questions: Sequence[Question], left_out: int) -> dict[str, Any]:
    """How many questions of which kind."""
    return {
        "origin": "golden and held out",
        "queries": len(questions),
        "tasks": dict(sorted(Counter(question.task for question in questions).items())),
        "left_out": left_out,
    }


def measures(asked: Sequence[Reply]) -> dict[str, Any]:
    """The mean score with its interval."""
    return {MEASURE: _mean([reply.score for reply in asked])}


def slice_means(questions: Sequence[Question], asked: Sequence[Reply]) -> dict[str, Any]:
    """Task → how many, and the mean score with its interval."""
    of_task = {
        task: {"queries": len(positions), **_mean([asked[p].score for p in positions])}
        for task, positions in sorted(tasks_of(questions).items())
    }
    return {"task": of_task}


def latency(asked: Sequence[Reply], cold_ms: float) -> dict[str, Any]:
    """Of an answer, from the prompt to its last word, one at a time; questions that no model was asked do not count."""
    import numpy as np

    times = [reply.milliseconds for reply in asked if reply.asked] or [0.0]
    return {
        "cold_ms": round(cold_ms, 1),
        "clients": 1,
        "searches": len(times),
        "warm": percentiles(times),
        "parts": {},
        "curve": [[percent, round(float(ms), 2)] for percent, ms in zip(CURVE, np.percentile(times, CURVE), strict=True)],
    }


def guarded_table(kinds: Sequence[str], old: Sequence[float], new: Sequence[float]) -> dict[str, Any]:
    """A set that must not get worse: its scores, one by one and by kind."""
    return {
        "prompts": len(kinds),
        "champion": list(old),
        "challenger": list(new),
        "kinds": {
            kind: {
                "prompts": len(places),
                "champion": round(sum(old[p] for p in places) / len(places), 4),
                "challenger": round(sum(new[p] for p in places) / len(places), 4),
            }
            for kind in dict.fromkeys(kinds)
            for places in ([p for p, one in enumerate(kinds) if one == kind],)
        },
    }


def losses(old: Sequence[float | None], new: Sequence[float | None]) -> dict[str, Any] | None:
    """Nats a token of held-out answers, the mean over conversations; better is lower."""
    pairs = [(a, b) for a, b in zip(old, new, strict=True) if a is not None and b is not None]
    if not pairs:
        return None
    return {
        "conversations": len(pairs),
        "too_long": len(old) - len(pairs),
        "champion": round(sum(a for a, _ in pairs) / len(pairs), 4),
        "challenger": round(sum(b for _, b in pairs) / len(pairs), 4),
        "verdict": verdict([a - b for a, b in pairs]).as_dict(),
    }


def _comparison(old: Sequence[float], new: Sequence[float], tasks: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    found = compare({MEASURE: old}, {MEASURE: new})[MEASURE]
    differences = [b - a for a, b in zip(old, new, strict=True)]
    means = {"champion": round(sum(old) / len(old), 4), "challenger": round(sum(new) / len(new), 4)}
    return {
        "measures": {MEASURE: {**means, **found.as_dict()}},
        "slices": {"task": {task: verdict([differences[p] for p in places]).as_dict() for task, places in tasks.items()}},
        "histogram": histogram(differences),
        "verdict": found.outcome,
        "promotes": found.promotes,
        "summary": f"{MEASURE}: {found.reason}",
    }


def _control(one: Sequence[float], again: Sequence[float]) -> dict[str, Any]:
    """The champion asked twice: greedy, so that it says the same."""
    found = verdict([b - a for a, b in zip(one, again, strict=True)])
    passed = found.outcome not in ("better", "worse")
    return {"passed": passed, "verdict": found.outcome, "differing": found.differing, "reason": found.reason}


def _told(questions: Sequence[Question], asked: Mapping[str, Sequence[Reply]], sign: int) -> list[dict[str, Any]]:
    """What the challenger loses, or wins, by most. Without a document a text stays out: nothing could forget it."""
    moved = [
        (sign * (new.score - old.score), question, old, new)
        for question, old, new in zip(questions, asked["champion"], asked["challenger"], strict=True)
    ]
    most = sorted((one for one in moved if one[0] > 0), key=lambda one: -one[0])[:TOLD]
    return [
        {
            "query": question.text[:SHOWN] if question.documents else f"a held-out conversation ({question.task})",
            "champion": round(old.score, 4),
            "challenger": round(new.score, 4),
            "said": [old.text[:SHOWN], new.text[:SHOWN]] if question.documents else [],
            "documents": list(question.documents),
        }
        for _, question, old, new in most
    ]


def _mean(values: Sequence[float]) -> dict[str, float | None]:
    bound = intervals([list(values)])[0]
    low, high = (round(bound[0], 4), round(bound[1], 4)) if bound else (None, None)
    return {"value": round(sum(values) / len(values), 4), "low": low, "high": high}

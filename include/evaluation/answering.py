"""Has golden queries answered in words, and scores the answers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from include.collection_file import load_collection
from include.evaluation.answer_scores import abstention, contains, exact_match, token_f1
from include.evaluation.bootstrap import intervals
from include.evaluation.judge import Judged, judge
from include.registry.champions import as_found

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.answering.answer import Answer
    from include.answering.llm import LLM
    from include.config import Settings
    from include.embedding.embedder import Embedder
    from include.evaluation.asking import Side
    from include.evaluation.cases import Cases
    from include.progress import Progress
    from include.store.golden import GoldenQuery
    from include.store.pool import Pool

WORST = 20
SHOWN = 300  # characters of a text in the report


@dataclass(frozen=True, slots=True)
class Answered:
    """One question with what was said; scores are None where no right answer is known."""

    query: GoldenQuery
    answer: Answer
    exact: float | None
    f1: float | None
    contains: float | None
    judged: Judged | None


def evaluate_answers(
    settings: Settings,
    pool: Pool,
    name: str,
    side: Side,
    cases: Cases,
    *,
    repeats: int,
    progress: Progress,
    embedder: Embedder | None = None,
) -> dict[str, Any]:
    """Answer every golden query, also those that no document answers, as `ask` does: a champion's answers are the champion's.

    The judge is always the endpoint of RAGWORKS_LLM_BASE_URL: no model judges its own answers unless it is that one.
    An answer is scored where the right one is known. To abstain from a question that can be answered scores 0.

    :param embedder: to judge sentences with; None: the one that found the passages.
    """
    from include.answering.answer import answer
    from include.answering.ask import open_judge
    from include.answering.llm import open_llm
    from include.registry.llm_champion import open_writer

    collection, llm = load_collection(settings, name), open_llm(settings)
    writer = open_writer(settings, pool, collection)
    queries = [*cases.queries, *cases.unanswerable]
    progress.step("answer", len(queries))
    answered = []
    for query in queries:
        found = side.find(query.query, collection.answers.passages)
        served = as_found(collection, found.passport)
        sentences = embedder or open_judge(found.passport, served, settings)
        given = answer(query.query, found.hits, served, writer, embedder=sentences)
        answered.append(_scored(query, given, llm, repeats))
        progress.advance(1)
    return describe(answered, judge_model=settings.llm_model if llm else None, repeats=repeats)


def _scored(query: GoldenQuery, given: Answer, llm: LLM | None, repeats: int) -> Answered:
    if query.answer is None:
        return Answered(query, given, None, None, None, None)
    if given.abstained:
        return Answered(query, given, 0.0, 0.0, 0.0, None)
    judged = judge(llm, query.query, query.answer, given.text, repeats=repeats) if llm else None
    text = given.text
    return Answered(
        query, given, exact_match(text, query.answer), token_f1(text, query.answer), contains(text, query.answer), judged
    )


def describe(answered: Sequence[Answered], *, judge_model: str | None, repeats: int) -> dict[str, Any]:
    """Means with intervals over the questions whose right answer is known, and how rightly was abstained."""
    known = [one for one in answered if one.f1 is not None]
    worst = sorted((one for one in known if (one.f1 or 0.0) < 1), key=lambda one: (one.f1, one.contains))[:WORST]
    grounded = [one.answer.groundedness for one in answered if not one.answer.abstained and one.answer.groundedness is not None]
    return {
        "questions": len(answered),
        "with_right_answer": len(known),
        "extractive": all(one.answer.extractive for one in answered),
        "exact_match": _mean([one.exact for one in known]),
        "f1": _mean([one.f1 for one in known]),
        "contains": _mean([one.contains for one in known]),
        "groundedness": _mean(grounded),
        "abstention": asdict(abstention([o.query.answerable for o in answered], [o.answer.abstained for o in answered])),
        "judge": _judge(known, judge_model, repeats),
        "worst": [_entry(one) for one in worst],
    }


def _judge(known: Sequence[Answered], model: str | None, repeats: int) -> dict[str, Any] | None:
    """None when there is no LLM; an abstention counts as wrong without being asked about."""
    if model is None:
        return None
    read = [one.judged for one in known if one.judged is not None and one.judged.right is not None]
    agreements = [j.agreement for j in read]
    return {
        "model": model,
        "repeats": repeats,
        "judged": len(read),
        "unreadable": sum(one.judged.unreadable for one in known if one.judged),
        "right": _mean([j.right for j in read] + [0.0 for one in known if one.answer.abstained]),
        "agreement": _mean(agreements),
    }


def _mean(values: Sequence[float | None]) -> dict[str, float | None] | None:
    """Value with interval; None of nothing."""
    numbers = [value for value in values if value is not None]
    if not numbers:
        return None
    bound = intervals([numbers])[0]
    low, high = (round(bound[0], 4), round(bound[1], 4)) if bound else (None, None)
    return {"value": round(sum(numbers) / len(numbers), 4), "low": low, "high": high}


def _entry(one: Answered) -> dict[str, Any]:
    """``documents`` names every document of the entry, by which ``forget`` finds it."""
    documents = [*(span.document for span in one.query.spans), *(hit.document for hit in one.answer.sources)]
    return {
        "query": one.query.query[:SHOWN],
        "right": (one.query.answer or "")[:SHOWN],
        "given": "(abstained)" if one.answer.abstained else one.answer.text[:SHOWN],
        "f1": round(one.f1 or 0.0, 4),
        "documents": list(dict.fromkeys(documents)),
    }

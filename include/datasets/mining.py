"""Hard negatives: passages that the live index finds for a question, and that do not answer it.

What is nearly as near to the question as the right passage may well be right too, though nobody judged it. So a negative's
similarity stays below a share of the right passage's: the positive-aware margin of Moreira and others, "NV-Retriever: improving
text embedding models with effective hard-negative mining" (2024, arXiv 2407.15831), who found 0.95 of the positive's best.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.datasets.filters import normalised, same_passage
from include.datasets.questions import drawn, found_passage
from include.store.datasets import Negative

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from include.datasets.kept_out import Barred
    from include.datasets.live_index import Groups, LiveIndex
    from include.datasets.options import DatasetOptions
    from include.datasets.questions import Question, Tally
    from include.store.answering_passages import Passage
    from include.store.search import Hit

POOL = 3  # times as many as are wanted are drawn from: the very hardest alone are the likeliest to be right after all


@dataclass(frozen=True, slots=True)
class Rule:
    """What may be a negative.

    :param margin: largest share of the right passage's similarity.
    :param same: share of common word triples from which two passages say the same.
    """

    count: int
    margin: float
    same: float
    seed: int = 0


def negatives_of(
    hits: Sequence[Hit],
    query: str,
    right: Passage,
    *,
    answers: Collection[str],
    barred: Collection[str],
    groups: Groups,
    rule: Rule,
) -> list[Negative]:
    """The negatives of one pair, hardest first; one a group of near-identical documents.

    :param hits: what the index finds, with ``scores["dense"]``.
    :param answers: groups whose documents answer the question.
    :param barred: documents that must not be seen on this side.
    """
    ceiling = rule.margin * right.score
    fit: dict[str, Hit] = {}
    for hit in sorted(hits, key=lambda hit: (-hit.scores["dense"], hit.document, hit.start)):
        group = groups.of(hit.document)
        near = hit.scores["dense"] >= ceiling
        if near or group in answers or group in fit or hit.document in barred:
            continue
        if not same_passage(hit.text, right.text, rule.same):
            fit[group] = hit
        if len(fit) >= POOL * rule.count:
            break
    chosen = sorted(fit.values(), key=lambda hit: drawn(rule.seed, query, hit.document, hit.start))[: rule.count]
    chosen.sort(key=lambda hit: (-hit.scores["dense"], hit.document, hit.start))
    return [Negative(h.document, h.start, h.end, h.text, round(h.scores["dense"], 4)) for h in chosen]


def mine(
    index: LiveIndex,
    questions: Sequence[Question],
    options: DatasetOptions,
    known: Mapping[str, frozenset[str]],
    barred: Sequence[Barred],
    tally: Tally,
) -> Iterator[tuple[Negative, ...]]:
    """The negatives of each question in order, a batch in memory at a time.

    Those that a source gave are kept where they may be seen. What people judged wrong, and all if none are wanted, gets none.
    What users disliked for a question comes before what is found.

    :param known: normalised question → documents that answer it.
    :param barred: for each question the documents that must not be seen on its side.
    """
    rule = Rule(options.negatives, options.margin, index.threshold, options.seed)
    wanted = [options.negatives > 0 and q.negatives is None and q.label > 0 for q in questions]
    asked = (question.query for question, wants in zip(questions, wanted, strict=True) if wants)
    disliked = _disliked(questions)
    found = index.ask(asked, depth=options.depth, mode=options.mining)
    index.progress.step("hard negatives", sum(wanted))
    without = 0
    for question, wants, out in zip(questions, wanted, barred, strict=True):
        if not wants:
            yield _allowed(question.negatives or (), out, tally)
            continue
        right = found_passage(question)
        answers = index.groups.named({*known.get(normalised(question.query), ()), question.document})
        hits = next(found)
        unseen = out.among(hit.document for hit in hits)
        negatives = negatives_of(hits, question.query, right, answers=answers, barred=unseen, groups=index.groups, rule=rule)
        shown = [
            one
            for one in _allowed(disliked.get(normalised(question.query), ()), out, tally)
            if index.groups.of(one.uri) not in answers and not same_passage(one.text, right.text, rule.same)
        ]
        negatives = _joined(shown, negatives, rule.count)
        without += not negatives
        index.progress.advance(1)
        yield tuple(negatives)
    if without:
        tally.notes["without_negatives"] = without


def _disliked(questions: Sequence[Question]) -> dict[str, list[Negative]]:
    """Normalised question → passages that users were shown for it and that do not answer."""
    told: dict[str, list[Negative]] = {}
    for question in questions:
        if question.origin == "feedback" and question.label <= 0:
            passage = found_passage(question)
            negative = Negative(passage.document, passage.start, passage.end, passage.text, round(passage.score, 4))
            told.setdefault(normalised(question.query), []).append(negative)
    return told


def _joined(first: Sequence[Negative], then: Sequence[Negative], count: int) -> list[Negative]:
    """At most ``count``, each passage once."""
    once = {(one.uri, one.start, one.end): one for one in (*then, *first)}  # what was disliked stands for what was mined
    places = dict.fromkeys((one.uri, one.start, one.end) for one in (*first, *then))
    return [once[place] for place in places][:count]


def _allowed(given: Sequence[Negative], barred: Barred, tally: Tally) -> tuple[Negative, ...]:
    """Those that a source gave, without documents that must not be seen on this side."""
    out = barred.among(negative.uri for negative in given)
    tally.drop("negative_of_other_side", sum(negative.uri in out for negative in given))
    return tuple(negative for negative in given if negative.uri not in out)

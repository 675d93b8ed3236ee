"""The gate as a table of cases: what an evaluation found, and what must be decided."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from include.registry.decision import Decision, GateRule
from include.registry.gate import decide

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RULE = GateRule(min_queries=50, min_effect=0.005, max_slice_loss=0.05, latency_budget_ms=500)
MEASURES = ("ndcg@10", "recall@10", "mrr@10", "map@10", "precision@10")
QUERIES = 200


def _old(count: int = QUERIES, seed: int = 1) -> list[float]:
    """Scores of a champion: some questions are answered, some half, some not."""
    draw = random.Random(seed)
    return [draw.choice([0.0, 0.39, 0.5, 0.63, 1.0, 1.0]) for _ in range(count)]


def _moved(old: Sequence[float], by: Callable[[int], float]) -> list[float]:
    return [round(min(1.0, max(0.0, score + by(n))), 4) for n, score in enumerate(old)]


def _shuffled(old: Sequence[float]) -> list[float]:
    """Scores without any relation to the champion's, and lower: what training on shuffled labels gives."""
    draw = random.Random(7)
    return [draw.choice([0.0, 0.0, 0.3, 0.5]) for _ in old]


def _latency(p95: float | None, searches: int = 100) -> dict[str, Any]:
    return {"warm": {"p50_ms": 20.0, "p95_ms": p95, "p99_ms": 99.0}, "searches": searches}


def _with_pair(p95: float) -> dict[str, Any]:
    """Both alone in time; the challenger with the reranker that serves takes so long."""
    alone = {"champion": _latency(80.0), "challenger": _latency(90.0)}
    return {"clients": 4, "sides": {**alone, "champion_reranked": _latency(300.0), "challenger_reranked": _latency(p95)}}


def _evaluation(old: Sequence[float], new: Sequence[float | None], **changed: Any) -> dict[str, Any]:
    """As :func:`include.evaluation.challenge.evaluate_challenger` leaves it."""
    sides: dict[str, Any] = {
        "champion": {measure: list(old) for measure in MEASURES},
        "challenger": {measure: list(new) for measure in MEASURES},
        "champion_again": {"ndcg@10": list(old)},
    }
    sides.update(changed.pop("sides", {}))
    return {
        "family": "embedder", "collection": "handbook", "measure": "ndcg@10",
        "champion": {"fingerprint": "st:old", "weight": None}, "challenger": {"fingerprint": "st:new", "weight": None},
        "scores": {"sides": sides},
        "slices": {},
        "a_a": {"passed": True},
        "latency": _with_pair(310.0),
        "served_reranker": None,
        **changed,
    }  # fmt: skip


OLD = _old()
BETTER = _moved(OLD, lambda n: 0.2 if n % 3 == 0 else 0.0)
WORSE = _moved(OLD, lambda n: -0.2 if n % 3 == 0 else 0.0)
MIDDLE = [0.5] * QUERIES
PERHAPS_BETTER = _moved(MIDDLE, lambda n: 0.3 if n % 20 < 11 else -0.3)
PERHAPS_WORSE = _moved(MIDDLE, lambda n: -0.3 if n % 20 < 11 else 0.3)
ON_A_SLICE = _moved(OLD, lambda n: -0.3 if n % 4 == 0 else 0.3)  # of every fourth question
EVERY_FOURTH = {"section": {"how-to": list(range(0, QUERIES, 4)), "other": [n for n in range(QUERIES) if n % 4]}}
NAN = float("nan")


def _one_nan(value: float | None) -> list[float | None]:
    scores: list[float | None] = list(BETTER)
    scores[17] = value
    return scores


def _pair(old: Sequence[float | None], new: Sequence[float | None]) -> dict[str, Any]:
    return {"champion_reranked": {"ndcg@10": list(old)}, "challenger_reranked": {"ndcg@10": list(new)}}


def _only(count: int, by: float) -> list[float]:
    """So many questions moved by so much."""
    low = [n for n, score in enumerate(OLD) if score <= 0.5][:count]
    return _moved(OLD, lambda n: by if n in low else 0.0)


def _few_slices(count: int) -> dict[str, dict[str, list[int]]]:
    return {"section": {"rare": list(range(0, 4 * count, 4)), "other": list(range(1, QUERIES, 2))}}


CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "surely better": (_evaluation(OLD, BETTER), []),
    "trained on shuffled labels": (_evaluation(OLD, _shuffled(OLD)), ["quality"]),
    "surely worse": (_evaluation(OLD, WORSE), ["quality"]),
    "equal to the champion, by fingerprint": (
        _evaluation(OLD, BETTER, challenger={"fingerprint": "st:old", "weight": None}), ["identical"]
    ),
    "equal to the champion, by its scores": (_evaluation(OLD, OLD), ["quality"]),
    "the same weights, blended otherwise, and better": (
        _evaluation(
            OLD, BETTER, champion={"fingerprint": "x", "weight": 0.5}, challenger={"fingerprint": "x", "weight": 0.3}
        ),
        [],
    ),
    "no champion yet": (_evaluation(OLD, BETTER, champion={"fingerprint": None, "weight": None}), []),
    "a tie of many differences": (_evaluation(MIDDLE, PERHAPS_BETTER), ["quality"]),
    "better, over the latency budget": (
        _evaluation(OLD, BETTER, latency={"clients": 4, "sides": {"champion": _latency(80.0), "challenger": _latency(500.1)}}),
        ["latency"],
    ),
    "better, just in the budget": (
        _evaluation(OLD, BETTER, latency={"clients": 4, "sides": {"champion": _latency(80.0), "challenger": _latency(500.0)}}),
        [],
    ),
    "better, and both are over the budget": (
        _evaluation(OLD, BETTER, latency={"clients": 4, "sides": {"champion": _latency(900.0), "challenger": _latency(800.0)}}),
        ["latency"],
    ),
    "worse, and over the budget": (
        _evaluation(OLD, WORSE, latency={"clients": 4, "sides": {"champion": _latency(80.0), "challenger": _latency(900.0)}}),
        ["quality", "latency"],
    ),
    "missing latency": (_evaluation(OLD, BETTER, latency=None), ["latency"]),
    "latency that is no number": (
        _evaluation(OLD, BETTER, latency={"sides": {"challenger": _latency(NAN)}}), ["latency"]
    ),
    "latency of the champion alone": (_evaluation(OLD, BETTER, latency={"sides": {"champion": _latency(80.0)}}), ["latency"]),
    "latency of a handful of searches": (
        _evaluation(OLD, BETTER, latency={"sides": {"challenger": _latency(80.0, 12)}}), ["latency"]
    ),
    "better overall, worse on a slice": (_evaluation(OLD, ON_A_SLICE, slices=EVERY_FOURTH), ["slice"]),
    "the same without slices": (_evaluation(OLD, ON_A_SLICE), []),
    "a slice loses, by less than the limit": (
        _evaluation(OLD, _moved(OLD, lambda n: -0.03 if n % 4 == 0 else 0.3), slices=EVERY_FOURTH), []
    ),
    "a slice of 19 loses all": (
        _evaluation(OLD, _moved(OLD, lambda n: -1.0 if n % 4 == 0 and n < 76 else 0.3), slices=_few_slices(19)), []
    ),
    "a slice of 20 loses all": (
        _evaluation(OLD, _moved(OLD, lambda n: -1.0 if n % 4 == 0 and n < 80 else 0.3), slices=_few_slices(20)),
        ["slice"],
    ),
    "one unlucky slice among twenty": (
        # of two questions in five the slice loses: p about 0.04 by itself, and one of twenty slices does so by chance
        _evaluation(
            _old(400), _moved(_old(400), lambda n: (-0.2 if n % 20 == 3 and n % 100 < 60 and n < 200 else 0.3 * (n % 20 != 3))),
            slices={"part": {str(part): list(range(part, 400, 20)) for part in range(20)}},
        ),
        [],
    ),
    "49 queries": (_evaluation(OLD[:49], BETTER[:49]), ["sample"]),
    "50 queries": (_evaluation(OLD[:50], _moved(OLD[:50], lambda n: 0.3)), []),
    "no queries": (_evaluation([], []), ["scores"]),
    "5 differing queries": (_evaluation(OLD, _only(5, 0.5)), ["quality"]),
    "6 differing queries, all better": (_evaluation(OLD, _only(6, 0.5)), []),
    "effect below the minimum": (_evaluation(OLD, _only(30, 0.02)), ["quality"]),
    "one NaN": (_evaluation(OLD, _one_nan(NAN)), ["scores"]),
    "one score that JSON could not hold": (_evaluation(OLD, _one_nan(None)), ["scores"]),
    "one infinity": (_evaluation(OLD, _one_nan(float("inf"))), ["scores"]),
    "asked other questions": (_evaluation(OLD, BETTER[:-1]), ["scores"]),
    "no challenger": (_evaluation(OLD, BETTER, scores={"sides": {"champion": {"ndcg@10": OLD}}}), ["scores"]),
    "nothing at all": ({}, ["scores"]),
    "the control fails": (
        _evaluation(OLD, BETTER, sides={"champion_again": {"ndcg@10": _moved(OLD, lambda n: 0.1)}}), ["control"]
    ),
    "the control fails by another measure": (_evaluation(OLD, BETTER, a_a={"passed": False}), ["control"]),
    "the control was not asked": (_evaluation(OLD, BETTER, a_a=None), ["control"]),
    "the control of the first half": (
        _evaluation(OLD, BETTER, sides={"champion_again": {"ndcg@10": [*OLD[:100], *[None] * 100]}}), []
    ),
    "a better embedder makes the pair worse": (
        _evaluation(OLD, BETTER, sides=_pair(OLD, WORSE), served_reranker="reranker 3"), ["pair"]
    ),
    "a better embedder that may make the pair worse": (
        _evaluation(OLD, BETTER, sides=_pair(MIDDLE, PERHAPS_WORSE), served_reranker="reranker 3"), ["pair"]
    ),
    "a better embedder, and the pair is as before": (
        _evaluation(OLD, BETTER, sides=_pair(OLD, OLD), served_reranker="reranker 3"), []
    ),
    "a better embedder and a better pair, asked half of the questions": (
        _evaluation(OLD, BETTER, sides=_pair([*OLD[:100], *[None] * 100], [*BETTER[:100], *[None] * 100]),
                    served_reranker="reranker 3"), []
    ),
    "in time by itself, and not with the reranker that serves": (
        _evaluation(OLD, BETTER, sides=_pair(OLD, OLD), served_reranker="reranker 3", latency=_with_pair(501.0)), ["latency"]
    ),
    "timed on a device that does not serve": (
        _evaluation(OLD, BETTER, latency={**_with_pair(310.0), "device": "cuda"}), ["latency"]
    ),
    "timed on the device that serves": (_evaluation(OLD, BETTER, latency={**_with_pair(310.0), "device": "cpu"}), []),
    "the pair was not timed": (
        _evaluation(OLD, BETTER, sides=_pair(OLD, OLD), served_reranker="reranker 3",
                    latency={"sides": {"champion": _latency(80.0), "challenger": _latency(90.0)}}), ["latency"]
    ),
    "five of twenty fall from 1 to 0": (
        # chance makes five of five one in 16; the mean is five times the limit, and a person is told
        _evaluation([1.0] * 20 + MIDDLE, [0.0] * 5 + [1.0] * 15 + [0.8] * QUERIES, slices={"part": {"a": list(range(20))}}), []
    ),
    "a slice loses by its mean and Holm is not sure": (
        _evaluation(MIDDLE, _moved(MIDDLE, lambda n: 0.3 if n >= 20 else (0.3 if n % 5 < 2 else -0.3)),
                    slices={"part": {"a": list(range(20)), "b": list(range(20, 110)), "c": list(range(110, 200))}}), []
    ),
    "a key of too many values": (_evaluation(OLD, BETTER, unsliced={"author": 140}), []),
    "a reranker serves and the pair was not asked": (_evaluation(OLD, BETTER, served_reranker="reranker 3"), ["pair"]),
    "a reranker beats the champion, and search is better with none": (
        _evaluation(OLD, BETTER, family="reranker", sides={"first_stage": {"ndcg@10": _moved(BETTER, lambda n: 0.2)}}),
        ["without"],
    ),
    "a reranker beats the champion and the first stage": (
        _evaluation(OLD, BETTER, family="reranker", sides={"first_stage": {"ndcg@10": OLD}}), []
    ),
    "everything is wrong": (
        _evaluation(OLD[:49], WORSE[:49], a_a=None, latency=None, served_reranker="reranker 3"),
        ["latency", "pair", "sample", "control"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_decided(case: str) -> None:
    evaluation, refused = CASES[case]
    decision = decide(evaluation, RULE)
    assert [refusal.rule for refusal in decision.refused_because] == refused, decision.reasons
    assert decision.accepted is (not refused)
    assert decision.reasons, "a person is told why, in any case"
    for refusal in decision.refused_because:
        assert str(refusal) in decision.reasons
        assert refusal.change, "and what would have to change"
    again = Decision.from_dict(json.loads(json.dumps(decision.as_dict())))
    assert again.as_dict() == decision.as_dict()


def test_the_same_row_gives_the_same_decision() -> None:
    for case in ("surely better", "better overall, worse on a slice"):
        assert decide(CASES[case][0], RULE).as_dict() == decide(CASES[case][0], RULE).as_dict()


def test_there_are_many_cases() -> None:
    assert len(CASES) >= 40


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        ("surely better", "The challenger answers better: nDCG@10 0.6"),
        ("surely better", "with 95 % confidence +0.0"),
        ("surely better", "95 of 100 searches take up to 90 ms with 4 asked at once; with what serves now 80 ms"),
        ("trained on shuffled labels", "The challenger answers worse: nDCG@10"),
        ("equal to the champion, by its scores", "The two answer all 200 queries alike."),
        ("a tie of many differences", "The difference may be chance, and a tie keeps the champion"),
        ("better, over the latency budget", "It is too slow: 95 of 100 searches take up to 500 ms"),
        ("better, and both are over the budget", "This machine keeps the budget with neither of the two"),
        ("better overall, worse on a slice", "More than 0.05 is lost on a slice: questions with section = how-to lose 0.2"),
        ("a slice of 19 loses all", "Too few queries to judge (under 20): section = rare (19)."),
        ("a slice loses, by less than the limit", "Surely lower, within training.max_slice_loss: section = how-to -0.0"),
        (
            "five of twenty fall from 1 to 0",
            "May lose more than 0.05, though it is not sure: part = a -0.2500 (5 of 20 queries differ).",
        ),
        (
            "a slice loses by its mean and Holm is not sure",
            "not sure: part = a -0.0600 (20 of 20 queries differ).",
        ),
        ("a key of too many values", "Not looked at by slice, for it has too many values: author (140)."),
        (
            "in time by itself, and not with the reranker that serves",
            "95 of 100 searches with the reranker that serves take up to 501 ms with 4 asked at once; with what serves now 300",
        ),
        ("timed on a device that does not serve", "Searches were timed on cuda, and those of users run on cpu"),
        ("49 queries", "49 golden queries could be asked, and at least 50 are needed to decide"),
        ("5 differing queries", "Only 5 of 200 golden queries tell the two apart, and at least 6 must"),
        ("effect below the minimum", "surely better, and by too little to be worth a change (less than 0.005)"),
        ("one NaN", "1 of 200 scores of the challenger (ndcg@10) are no numbers"),
        ("a better embedder makes the pair worse", "The pair that users get is worse: with the reranker that serves"),
        ("a better embedder that may make the pair worse", "The pair that users get may be worse"),
        ("the control fails", "the champion asked twice is not the same"),
        ("a reranker beats the champion, and search is better with none", "Search is better without it"),
    ],
)
def test_what_a_person_is_told(case: str, sentence: str) -> None:
    assert sentence in " ".join(decide(CASES[case][0], RULE).reasons).replace("The champion asked", "the champion asked")


def test_how_many_questions_would_be_enough() -> None:
    """A gain that may be chance names the number of questions by which it would be sure: asked so many, it is."""
    decision = decide(_evaluation(MIDDLE[:60], PERHAPS_BETTER[:60]), RULE)
    (refusal,) = decision.refused_because
    assert "takes about" in refusal.change
    needed = int(refusal.change.split("takes about ")[1].split()[0].replace(",", ""))
    assert 60 < needed < 2000
    times = needed // 60 + 1
    assert decide(_evaluation(MIDDLE[:60] * times, PERHAPS_BETTER[:60] * times), RULE).accepted


def test_the_rule_is_the_collections() -> None:
    slow = CASES["better, over the latency budget"][0]
    assert decide(slow, GateRule(latency_budget_ms=600)).accepted
    sliced = CASES["better overall, worse on a slice"][0]
    assert decide(sliced, GateRule(max_slice_loss=0.5)).accepted
    assert decide(CASES["effect below the minimum"][0], GateRule(min_effect=0)).accepted
    assert decide(CASES["49 queries"][0], GateRule(min_queries=20)).accepted


def test_a_measure_that_falls_is_told() -> None:
    """nDCG decides; that recall is surely lower a person should know all the same."""
    evaluation = _evaluation(OLD, BETTER)
    evaluation["scores"]["sides"]["challenger"]["recall@10"] = WORSE
    decision = decide(evaluation, RULE)
    assert decision.accepted
    assert any("Surely lower, though it does not decide: recall@10 -0.0" in reason for reason in decision.reasons)


def test_chance_rarely_wins() -> None:
    """Two models that differ by nothing but chance: at most about one in forty is taken for better."""
    wrong = 0
    for seed in range(60):
        draw = random.Random(seed)
        new = [score + draw.choice([-0.2, 0.0, 0.2]) for score in MIDDLE[:60]]
        wrong += decide(_evaluation(MIDDLE[:60], new), RULE).accepted
    assert wrong <= 4

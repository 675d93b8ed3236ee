"""Scores against figures worked out by hand, the two ways of scoring against each other, slices, latency."""

from __future__ import annotations

import math

import pytest

from include.errors import BadData
from include.evaluation.asking import Asked
from include.evaluation.cases import slices
from include.evaluation.latency import describe_latency, percentiles
from include.evaluation.measures import score_documents, score_gains, whole_grades
from include.evaluation.relevance import gains
from include.evaluation.report import slice_tables
from include.store.golden import GoldenQuery, GoldenSpan
from include.store.search import Hit


def test_scores_by_hand() -> None:
    rankings = {"q1": ["a", "b", "c"], "q2": ["x", "y"], "q3": []}
    qrels = {"q1": {"b": 2, "c": 1, "z": 1}, "q2": {"nothing": 1}, "q3": {"a": 1}}
    found = score_documents(rankings, qrels, 10)
    gain = 2 / math.log2(3) + 1 / math.log2(4)
    ideal = 2 + 1 / math.log2(3) + 1 / math.log2(4)
    assert found["q1"] == {
        "ndcg@10": pytest.approx(gain / ideal),
        "recall@10": pytest.approx(2 / 3),
        "mrr@10": 0.5,
        "map@10": pytest.approx((1 / 2 + 2 / 3) / 3),
        "precision@10": pytest.approx(0.2),
    }
    assert set(found["q2"].values()) == set(found["q3"].values()) == {0.0}


def test_ties_keep_the_order_of_the_ranking() -> None:
    """trec_eval would sort equal scores by document id; the ranking is the user's."""
    assert score_documents({"q": ["a", "b"]}, {"q": {"a": 1}}, 10)["q"]["mrr@10"] == 1.0
    assert score_documents({"q": ["b", "a"]}, {"q": {"a": 1}}, 10)["q"]["mrr@10"] == 0.5


def test_cut_off() -> None:
    ranking = [str(i) for i in range(20)]
    assert set(score_documents({"q": ranking}, {"q": {"15": 1}}, 10)["q"].values()) == {0.0}


def test_both_ways_of_scoring_are_one() -> None:
    """Questions for characters are scored as questions for documents are."""
    query = GoldenQuery("q", (GoldenSpan("a", grade=3.0), GoldenSpan("d", grade=1.0), GoldenSpan("z", grade=2.0)))
    hits = [Hit(d, n, n, n + 1, "", 0.0, {}) for n, d in enumerate("cabadcze")]
    grades = whole_grades(query)
    assert grades == {"a": 3, "d": 1, "z": 2}
    by_document = score_documents({"q": list("cabdze")}, {"q": grades}, 10)["q"]
    assert score_gains(gains(hits, query, 10), query, 10) == pytest.approx(by_document)


def test_characters_and_broken_grades_are_not_for_qrels() -> None:
    assert whole_grades(GoldenQuery("q", (GoldenSpan("a", 0, 5),))) is None
    assert whole_grades(GoldenQuery("q", (GoldenSpan("a", grade=0.5),))) is None


def test_latency() -> None:
    assert percentiles([float(i) for i in range(1, 102)]) == {"p50_ms": 51.0, "p95_ms": 96.0, "p99_ms": 100.0}
    asked = [Asked({}, 10.0, {"embed": 0.004, "search": 0.006}), Asked({}, 30.0, {"embed": 0.008, "search": 0.022})]
    found = describe_latency(asked, clients=4, seconds=0.5, cold_ms=1234.56)
    assert (found["cold_ms"], found["clients"], found["searches_per_second"]) == (1234.6, 4, 4.0)
    assert found["warm"]["p50_ms"] == 20.0
    assert {part: times["p50_ms"] for part, times in found["parts"].items()} == {"embed": 6.0, "search": 14.0}
    assert found["curve"][0][1] <= found["curve"][-1][1] == 30.0


def _about(**metadata: object) -> GoldenQuery:
    return GoldenQuery(str(metadata), (GoldenSpan("a"),), metadata)


def test_slices() -> None:
    queries = [_about(team="x", id=1), _about(team="y", id=2), _about(team=["x", "z"], id=3), _about(odd={"a": 1})]
    assert slices(queries, ["team"]) == {"team": {"x": [0, 2], "y": [1], "z": [2]}}
    assert set(slices(queries)) == {"team", "id"}
    assert slices([_about(n=n) for n in range(30)]) == {}, "thirty values are no table"
    assert slices([_about(n=1), _about(n=1)]) == {}, "nor is one"
    assert len(slices([_about(n=n) for n in range(30)], ["n"])["n"]) == 30
    with pytest.raises(BadData, match="--slice section: no query has it in its metadata, which has team"):
        slices([_about(team="x")], ["section"])


def test_a_table_of_slices() -> None:
    names = ("ndcg@10", "recall@10", "mrr@10", "map@10", "precision@10")
    asked = [Asked(dict.fromkeys(names, value), 1.0) for value in (1.0, 0.0, 0.5)]
    table = slice_tables(asked, {"team": {"x": [0, 1], "y": [2]}}, 10)["team"]
    assert (table["x"]["queries"], table["x"]["ndcg@10"], table["y"]["ndcg@10"]) == (2, 0.5, 0.5)
    assert table["x"]["low"] < 0.5 < table["x"]["high"]
    assert table["y"]["low"] is None

"""The light reranker, from a dataset to a model that search uses."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from include.collection_file import Retrieval
from include.errors import BadData, Transient
from include.evaluation.challenge import evaluate_challenger
from include.lexical.terms import analyzer
from include.lexical.vocabulary import vocabulary_of
from include.progress import Silent
from include.registry.artifacts import local_model
from include.registry.gate import judge
from include.retrieval.pair_features import FEATURES
from include.retrieval.rerank import open_reranker
from include.retrieval.searcher import Searcher
from include.store import collections, golden
from include.store.golden import GoldenQuery, GoldenSpan
from include.store.pool import open_pool
from include.store.search import Hit
from include.training import forest
from include.training.arguments import RerankerArguments
from include.training.interruption import Interruption
from include.training.two_stage import Candidates, FirstStageOf, questions_of
from tests.training import phrases

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from include.config import Settings
    from include.store.datasets import Pair
    from include.store.pool import Pool

ARGUMENTS = {"kind": "forest", "trees": 60}


@pytest.fixture
def pool(settings: Settings) -> Iterator[Pool]:
    with open_pool(settings) as pool:
        yield pool


@pytest.fixture
def pairs(settings: Settings, documents: Path, collection: Callable[..., str]) -> list[Pair]:
    return phrases.collection_of(settings, documents, collection, 60)


def test_it_learns_what_the_first_stage_does_not_know(settings: Settings, pool: Pool, pairs: list[Pair]) -> None:
    """On questions it never saw: better than the first stage, by a weight that was fitted there, and on training questions by
    trees that did not learn from them."""
    run = phrases.trained(settings, pool, pairs, "light", **ARGUMENTS)
    dev = run.training["dev"]
    assert run.state == "trained"
    assert dev["questions"] == 20 + 40
    assert dev["first_stage"]["ndcg@10"] < 0.75
    assert dev["blended"]["ndcg@10"] > 0.95
    assert dev["oracle"]["ndcg@10"] == 1
    best = max(point["ndcg@10"] for point in dev["curve"])
    assert dev["blended"]["ndcg@10"] >= best - 0.02
    assert dev["curve"][0] == {"rerank_weight": 0.0, "ndcg@10": dev["first_stage"]["ndcg@10"]}
    assert run.training["settings"] == {"rerank_weight": dev["rerank_weight"], "rerank_candidates": dev["candidates"]}
    # Search opens it by its reference, with the fitted weight, and puts the phrase first.
    reranker = open_reranker(run.artifact or "", settings)
    assert reranker is not None
    assert reranker.fingerprint == run.fingerprint
    assert reranker.weight == dev["rerank_weight"] > 0.2
    found = Searcher(settings, pool, "phrases", reranker=reranker)
    first = [found.documents(pair.query, top_k=1, rerank=True)[0][0] == pair.uri for pair in pairs if pair.split == "dev"]
    assert sum(first) >= 18
    # The same work gives the same model.
    again = phrases.trained(settings, pool, pairs, "again", **ARGUMENTS)
    assert (again.fingerprint, again.artifact) == (run.fingerprint, run.artifact)


def test_shuffled_labels_do_not_help(settings: Settings, pool: Pool, pairs: list[Pair]) -> None:
    """The challenger that a gate must stop: its reranker alone orders by chance, and the fitted weight is small."""
    run = phrases.trained(settings, pool, phrases.shuffled(pairs), "shuffled", **ARGUMENTS)
    dev = run.training["dev"]
    assert dev["blended"]["ndcg@10"] - dev["first_stage"]["ndcg@10"] < 0.1


def test_the_gate_stops_what_shuffled_labels_made(
    settings: Settings, pool: Pool, pairs: list[Pair], documents: Path, collection: Callable[..., str]
) -> None:
    """Trained, asked, judged: right labels win on questions that no training saw, the same labels in disorder do not."""
    source = {"type": "jsonl", "path": str(documents)}
    in_time = {"mode": "lexical", "latency_budget_ms": 60_000}  # what is too slow is another test
    collection("phrases", source=source, retrieval=in_time, training={"min_queries": 20, "clients": 1})
    asked = [GoldenQuery(pair.query, (GoldenSpan(pair.uri),)) for pair in pairs if pair.split == "dev"]
    with pool.connection() as connection:
        golden.save(connection, collections.collection_id(connection, "phrases"), asked)
    for key, rows in (("right", pairs), ("shuffled", phrases.shuffled(pairs))):
        phrases.trained(settings, pool, rows, key, **ARGUMENTS)
        evaluate_challenger(settings, pool, key, progress=Silent())
        decision = judge(settings, pool, key)
        assert decision.accepted is (key == "right"), decision.reasons
        assert phrases.row(pool, key).state == ("accepted" if key == "right" else "refused")
    assert [refusal.rule for refusal in decision.refused_because] == ["quality"]


def test_all_labels_alike(settings: Settings, pool: Pool, pairs: list[Pair]) -> None:
    """Right passages that the index does not hold: no question has anything to learn from."""
    elsewhere = [replace(p, uri=f"gone-{p.uri}") if p.split == "train" else p for p in pairs]
    with pytest.raises(BadData, match=r"40 training questions: all labels are alike: the first stage finds"):
        phrases.trained(settings, pool, elsewhere, "alike", **ARGUMENTS)
    only_train = [pair for pair in pairs if pair.split == "train"]
    with pytest.raises(BadData, match="it has no development questions"):
        phrases.trained(settings, pool, only_train, "no-dev", **ARGUMENTS)


def test_an_interruption_leaves_nothing_and_starts_anew(
    settings: Settings, pool: Pool, pairs: list[Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked to stop while candidates are fetched: the row says so, and the next attempt makes the model."""
    phrases.plan(pool, pairs, "stopped", **ARGUMENTS)
    asked = []

    def stop(self: Interruption) -> None:
        asked.append(1)
        if len(asked) == 5:
            self.requested = "SIGTERM"
        original(self)

    original = Interruption.check
    monkeypatch.setattr(Interruption, "check", stop)
    with pytest.raises(Transient, match="interrupted by SIGTERM"):
        phrases.again(settings, pool, "stopped")
    monkeypatch.undo()
    assert phrases.row(pool, "stopped").state == "interrupted"
    run = phrases.again(settings, pool, "stopped")
    assert (run.state, run.attempts) == ("trained", 2)
    assert local_model(run.artifact or "", settings)


def test_what_counts_as_wrong() -> None:
    """A near copy of a right passage, or another passage of its document, may well be right: nothing is learned of it."""
    said = "river otters sleep in holts near the water, hollow trees, under large roots of old willows, safe and dry"
    found = [("a", 0, f"{said} until noon"), ("b", 0, f"{said} all night"), ("c", 0, "badgers dig"), ("a", 500, "other")]
    hits = [Hit(uri, 0, start, start + 40, text, 1.0, {}) for uri, start, text in found]
    query = GoldenQuery("where do otters sleep", (GoldenSpan("a", 0, 40),))
    assert forest.labels_of(analyzer("english"), query, hits) == [1.0, None, 0.0, None]
    whole = GoldenQuery("where do otters sleep", (GoldenSpan("a"),))
    assert forest.labels_of(analyzer("english"), whole, hits) == [1.0, None, 0.0, 1.0]


def test_folds_keep_together_what_shares_a_document() -> None:
    """And are of about one size; what is scored was not learned from, so labels that mean nothing predict nothing."""
    asked = [GoldenQuery(f"q{n}", (GoldenSpan(f"d{n}"), GoldenSpan(f"d{n - n % 3}"))) for n in range(60)]
    found = [Candidates(query, (), ()) for query in asked]
    folds = forest.folds_of(found)
    assert all(len({folds[n] for n in range(first, first + 3)}) == 1 for first in range(0, 60, 3))
    assert sorted(folds.count(fold) for fold in set(folds)) == [12] * 5

    draw = np.random.default_rng(0)
    chance = []
    for _ in range(60):
        labels = np.zeros(10)
        labels[draw.integers(10)] = 1
        chance.append(forest.Judged(draw.random((10, len(FEATURES))).astype(np.float32), labels))
    arguments = RerankerArguments(kind="forest", trees=30, min_leaf=1)
    scores = forest.out_of_fold(chance, folds, arguments, jobs=1)
    learned = forest.grow(forest.examples(chance, seed=0), arguments, jobs=1)
    assert list(sorted(scores)) == list(range(60))

    def first(of: Callable[[int], Sequence[float]]) -> int:
        return sum(int(np.argmax(of(n))) == int(np.argmax(chance[n].labels)) for n in range(60))

    assert first(lambda n: learned.score(chance[n].features).tolist()) > 50  # what they learned by heart
    assert first(lambda n: scores[n]) < 18  # one in ten by chance
    assert forest.out_of_fold(chance[:1], [0], arguments, jobs=1) == {}  # nothing else to learn from


def test_each_question_counts_the_same(settings: Settings, pool: Pool, pairs: list[Pair]) -> None:
    first = FirstStageOf(settings, pool, "phrases", Interruption())
    found = first.all_candidates(questions_of(pairs), 50, "questions", Silent())
    learned = forest.examples(forest.judged(vocabulary_of("english", [pair.positive for pair in pairs]), found), seed=0)
    assert learned.weights.sum() == pytest.approx(60)
    assert learned.weights[learned.labels > 0].sum() == pytest.approx(30)
    assert np.isnan(learned.rows[:, 0]).any()  # some learn without the first stage
    assert not np.isnan(learned.rows[:, 0]).all()
    assert first.retrieval == Retrieval(mode="lexical")

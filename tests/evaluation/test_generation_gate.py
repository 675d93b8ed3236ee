"""The quality gate on real Postgres: it passes the equal and the better, stops the worse, and is not fooled by noise."""

from __future__ import annotations

import gzip
import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from include.embedding.embedder import TextRefused
from include.embedding.local import LocalEmbedder
from include.errors import BadConfiguration, BadData
from include.evaluation.gate_report import GateReport
from include.evaluation.generation_gate import SMALL_SAMPLE
from include.evaluation.golden import read_pair
from include.quality.gates import check_quality
from include.store import golden
from include.store.golden import GoldenQuery, GoldenSpan
from include.store.pool import open_pool
from tests.evaluation.two_generations import TwoGenerations, WordsEmbedder
from tests.support import HashEmbedder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from include.config import Settings
    from include.embedding.embedder import Embedder
    from include.store.generations import Generation

LIMIT = 0.02
_WORDS = [a + b for a in ("ka", "lo", "mi", "ne", "ru", "so", "ta", "ve") for b in ("bin", "dor", "fel", "gam", "lek", "pos")]


def _texts(count: int) -> dict[str, str]:
    """Pages of two sections each, in words of their own mixture."""
    pages = {}
    for number in range(count):
        draw = random.Random(number)
        own = draw.sample(_WORDS, 8)
        body = [" ".join(draw.choices(own, k=12)) + "." for _ in range(6)]
        pages[f"{number}.md"] = (
            f"# Page {number}\n\n{' '.join(body[:3])}\n\n## About {own[0]} {own[1]} {number}\n\n{' '.join(body[3:])}\n"
        )
    return pages


@pytest.fixture
def two(settings: Settings) -> Iterator[TwoGenerations]:
    with open_pool(settings) as pool:
        made = TwoGenerations(pool)
        made.write(_texts(60))
        yield made


def _import(two: TwoGenerations, *queries: GoldenQuery) -> None:
    with two.pool.connection() as connection:
        golden.save(connection, two.collection, queries)


def _about(count: int) -> list[GoldenQuery]:
    """Queries of half of a page's first sentence."""
    texts = _texts(count)
    return [GoldenQuery(f"{n} " + " ".join(texts[f"{n}.md"].split()[3:9]), (GoldenSpan(f"{n}.md"),)) for n in range(count)]


@pytest.mark.parametrize(
    ("live", "built", "stopped"),
    [
        (WordsEmbedder(), WordsEmbedder(), False),
        (HashEmbedder(), WordsEmbedder(), False),
        (WordsEmbedder(), HashEmbedder(), True),
    ],
    ids=["equal", "better", "worse"],
)
@pytest.mark.parametrize("origin", ["golden", "headings"])
def test_only_a_worse_generation_is_stopped(
    live: Embedder, built: Embedder, stopped: bool, origin: str, two: TwoGenerations
) -> None:
    if origin == "golden":
        _import(two, *_about(60))
    before, after = two.build(live, live=True), two.build(built)
    report = two.compare(before, after)
    assert (report.compared, report.origin, report.left_out) == (True, origin, 0)
    assert report.queries >= 50
    assert report.difference == pytest.approx((report.built or 0) - (report.live or 0))
    assert report.difference is not None
    if not stopped:
        assert report.difference >= 0
        check_quality(report, LIMIT, name="handbook")
        return
    assert report.difference < -0.3
    assert report.high is not None
    assert report.high < 0
    assert len(report.worst) == 5
    assert all(loss.built < loss.live for loss in report.worst)
    with pytest.raises(BadData, match=f"ragworks activate handbook {after.id}") as error:
        check_quality(report, LIMIT, name="handbook")
    assert f"generation {before.id} stays live" in str(error.value)
    assert report.worst[0].documents[0] in str(error.value)
    assert report.worst[0].query not in str(error.value)
    check_quality(report, 1.0, name="handbook")


def test_equal_is_exactly_equal_and_embeds_each_query_once(two: TwoGenerations) -> None:
    shared = WordsEmbedder()
    report = two.compare(two.build(shared, live=True), two.build(shared))
    assert (report.difference, report.low, report.high, report.worst) == (0, 0, 0, ())
    assert shared.queries == report.queries


def test_each_side_is_asked_with_its_own_model(two: TwoGenerations) -> None:
    one, other = WordsEmbedder(), WordsEmbedder(noise=0.1)
    report = two.compare(two.build(one, live=True), two.build(other))
    assert one.queries == other.queries == report.queries


def test_the_report_is_json_and_says_that_headings_stood_in(two: TwoGenerations) -> None:
    report = two.compare(two.build(WordsEmbedder(), live=True), two.build(HashEmbedder()))
    again = json.loads(json.dumps(report.as_dict()))
    assert again["origin"] == "headings"
    assert "no golden queries" in again["warnings"][0]
    assert "headings" in report.summary()
    assert set(again["worst"][0]) == {"query", "documents", "live", "built"}
    assert again["live"] == round(report.live or 0, 4)


def test_the_same_comparison_gives_the_same_figures(two: TwoGenerations) -> None:
    sides = two.build(WordsEmbedder(), live=True), two.build(WordsEmbedder(noise=0.5))
    assert replace(two.compare(*sides), seconds=0) == replace(two.compare(*sides), seconds=0)


def test_a_first_generation_is_reported_and_never_stopped(two: TwoGenerations) -> None:
    built = two.build(HashEmbedder())
    report = two.compare(None, built)
    assert (report.compared, report.origin, report.built) == (False, "none", None)
    _import(two, *_about(60))
    report = two.compare(None, built)
    assert (report.compared, report.origin, report.live) == (False, "golden", None)
    assert report.built is not None
    check_quality(report, 0.0, name="handbook")


def test_noise_raises_no_alarm(two: TwoGenerations) -> None:
    """A against A: one model disturbed so little that the right page moves up here and down there, in 30 draws."""
    vague = [" ".join(text.split()[3:6]) for text in _texts(60).values()]
    _import(two, *(GoldenQuery(f"{words} {n % 7}", (GoldenSpan(f"{n}.md"),)) for n, words in enumerate(vague)))
    live = two.build(WordsEmbedder(noise=0.3), live=True)
    alarms, differences = 0, []
    for seed in range(1, 31):
        report = two.compare(live, two.build(WordsEmbedder(noise=0.3, seed=seed)))
        differences.append(report.difference)
        try:
            check_quality(report, LIMIT, name="handbook")
        except BadData:
            alarms += 1
    print(f"{alarms} alarms; differences {min(differences):+.3f} to {max(differences):+.3f}")  # type: ignore[type-var]
    assert len(set(differences)) > 15, "the noise must change rankings, else this test shows nothing"
    assert alarms <= 3, "a one-sided error of 2.5 % of 30 is one; four has a chance of 1 %"


def test_golden_spans_survive_another_chunk_size(two: TwoGenerations) -> None:
    """The answer is the second section; what chunks it is in does not matter, a generation that lost it does."""
    texts = _texts(60)
    queries = []
    for number in range(60):
        text = texts[f"{number}.md"]
        start = text.index("## About")
        sentence = text[start:].split("\n\n")[1].split(".")[0]
        queries.append(GoldenQuery(f"{number} {sentence}", (GoldenSpan(f"{number}.md", start, len(text)),)))
    _import(two, *queries)
    model = WordsEmbedder()
    live = two.build(model, live=True, max_tokens=200)
    for size in (120, 60):
        report = two.compare(live, two.build(model, max_tokens=size))
        assert (report.origin, report.queries) == ("golden", 60)
        assert (report.live or 0) > 0.9
        assert (report.built or 0) > 0.9, "the same spans are found in other chunks"
    with pytest.raises(BadData):
        check_quality(two.compare(live, two.build(HashEmbedder(), max_tokens=60)), LIMIT, name="handbook")


def test_a_span_is_found_again_after_an_edit(two: TwoGenerations) -> None:
    """An insertion above moves it; a text that is gone is not held against the generation."""
    texts = _texts(60)
    text = texts["3.md"]
    start = text.index("## About")
    _import(two, GoldenQuery(text[start + 3 :].split("\n")[0], (GoldenSpan("3.md", start, len(text)),)))
    two.write({"3.md": "# New first section\n\n" + "Unrelated words stand here. " * 60 + "\n\n" + text})
    model = WordsEmbedder()
    report = two.compare(two.build(model, live=True, max_tokens=60), two.build(model, max_tokens=60))
    assert (report.origin, report.queries, report.left_out) == ("golden", 1, 0)
    assert report.built == 1.0
    two.write({"3.md": "# Something else\n\nNothing of it is left."})
    report = two.compare(two.build(model, live=True), two.build(model))
    assert (report.origin, report.left_out) == ("headings", 1)
    assert "none of 1 golden queries could be asked" in report.warnings[0]


def test_deleted_documents_are_left_out(two: TwoGenerations) -> None:
    _import(two, *_about(30), GoldenQuery("of nothing", (GoldenSpan("unknown.md"),)))
    live = two.build(WordsEmbedder(), live=True)
    two.delete("0.md")
    built = two.build(WordsEmbedder(), without=["1.md"])
    report = two.compare(live, built)
    assert (report.queries, report.left_out) == (28, 3)
    assert report.difference == pytest.approx(0, abs=0.02)


def test_one_of_two_answers_gone_leaves_the_other(two: TwoGenerations) -> None:
    (query, *_) = _about(1)
    _import(two, replace(query, spans=(GoldenSpan("0.md"), GoldenSpan("1.md"))))
    two.delete("1.md")
    report = two.compare(two.build(WordsEmbedder(), live=True), two.build(WordsEmbedder()))
    assert (report.queries, report.built, report.built_recall) == (1, 1.0, 1.0)


def test_a_small_sample_is_said_to_be_small(two: TwoGenerations) -> None:
    _import(two, *_about(SMALL_SAMPLE - 1))
    report = two.compare(two.build(WordsEmbedder(), live=True), two.build(HashEmbedder()))
    assert any("small sample" in warning for warning in report.warnings)
    with pytest.raises(BadData):
        check_quality(report, LIMIT, name="handbook")


@pytest.mark.parametrize("count", [1, 5, SMALL_SAMPLE - 1, SMALL_SAMPLE])
def test_of_few_golden_queries_headings_are_asked_too(count: int, two: TwoGenerations) -> None:
    _import(two, *_about(count))
    report = two.compare(two.build(WordsEmbedder(), live=True), two.build(HashEmbedder()))
    assert report.difference is not None
    assert report.difference < -LIMIT
    assert any("too few for a verdict" in warning for warning in report.warnings) == (count < 6)
    assert (report.sanity is not None) == (count < SMALL_SAMPLE)
    with pytest.raises(BadData) as error:
        check_quality(report, LIMIT, name="handbook")
    assert ("sanity queries made from headings" in str(error.value)) == (count < 6), "it says which of the two is worse"
    if count < 6:
        check_quality(replace(report, sanity=None), LIMIT, name="handbook")  # five agree by chance once in 32 times


def test_the_report_of_few_golden_queries_has_both(two: TwoGenerations) -> None:
    _import(two, *_about(3))
    report = two.compare(two.build(WordsEmbedder(), live=True), two.build(HashEmbedder()))
    found = json.loads(json.dumps(report.as_dict()))
    assert (found["origin"], found["queries"], found["sanity"]["origin"]) == ("golden", 3, "headings")
    assert found["sanity"]["high"] < 0
    assert "worst" not in found["sanity"]
    assert len(found["worst"]) > 5, "losses on headings stand with the others, where `forget` finds them"
    assert "headings are asked too" in found["sanity"]["warnings"][0]
    better = two.compare(two.build(HashEmbedder(), live=True), two.build(WordsEmbedder()))
    check_quality(better, 0.0, name="handbook")


class _Refusing(WordsEmbedder):
    """Does not take one of the queries."""

    fingerprint = "words:refusing"  # type: ignore[assignment]

    def embed_query(self, text: str) -> NDArray[np.float32]:
        if text.startswith("7 "):
            raise TextRefused("the endpoint refuses the request", "status 400")
        return super().embed_query(text)


def test_a_query_that_a_model_refuses(two: TwoGenerations) -> None:
    """It holds up nothing: the new model has no answer to it, and what the live one cannot be asked is not asked."""
    _import(two, *_about(30))
    sound, refusing = two.build(WordsEmbedder(), live=True), two.build(_Refusing())
    report = two.compare(sound, refusing)
    assert (report.queries, report.left_out) == (30, 0)
    assert report.difference == pytest.approx(-1 / 30, abs=0.01)
    report = two.compare(refusing, sound)
    assert (report.queries, report.left_out, report.difference) == (29, 1, 0)


def test_a_live_model_that_is_gone_does_not_lock_the_old_index_in(two: TwoGenerations) -> None:
    live, built = two.build(WordsEmbedder(), live=True), two.build(WordsEmbedder(noise=0.1))
    known: Callable[[Generation], Embedder] = two.embedder

    def gone(side: Generation) -> Embedder:
        if side.id == live.id:
            raise BadConfiguration("model old", "it is not there")
        return known(side)

    report = two.compare(live, built, gone)
    assert not report.compared
    assert "model old" in report.reason
    check_quality(report, 0.0, name="handbook")

    def none_at_all(side: Generation) -> Embedder:
        raise BadConfiguration("model new", "it is not there")

    with pytest.raises(BadConfiguration):
        two.compare(live, built, none_at_all)


@pytest.mark.parametrize(
    ("difference", "high", "limit", "stopped"),
    [
        (-0.03, -0.001, 0.02, True),
        (-0.03, 0.0, 0.02, False),  # not sure
        (-0.02, -0.01, 0.02, False),  # sure, and tolerated
        (-0.001, -0.0005, 0.0, True),
        (0.5, 0.6, 0.0, False),
    ],
)
def test_the_rule(difference: float, high: float, limit: float, stopped: bool) -> None:
    report = GateReport(True, 2, 1, live=0.8, built=0.8 + difference, difference=difference, low=-1.0, high=high, queries=50)
    if stopped:
        with pytest.raises(BadData, match="the loss is sure"):
            check_quality(report, limit, name="handbook")
    else:
        check_quality(report, limit, name="handbook")


@pytest.mark.slow
def test_real_model_and_real_questions(settings: Settings, shared_data: Path) -> None:
    """200-token chunks against 8-token scraps of ZenML's documentation, by the questions people wrote for it."""
    folder = shared_data / "zenml-docs-qa"
    with gzip.open(folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts = {row["id"]: row["text"] for row in map(json.loads, lines)}
    chosen = dict(sorted(texts.items())[:40])
    model = LocalEmbedder("all-MiniLM-L6-v2")
    with open_pool(settings) as pool:
        two = TwoGenerations(pool)
        two.write(chosen)
        live, scraps = two.build(model, live=True, max_tokens=200), two.build(model, max_tokens=8)
        by_headings = two.compare(live, scraps)
        _import(two, *read_pair(str(folder / "queries.jsonl.gz"), str(folder / "qrels.tsv")))
        by_golden = two.compare(live, scraps)
    print(by_headings.summary(), by_headings.seconds, by_golden.summary(), by_golden.seconds, sep="\n")
    assert by_golden.left_out > 50
    assert by_golden.difference is not None
    assert by_golden.difference < 0
    for report in (by_headings, by_golden):
        with pytest.raises(BadData, match=report.origin):
            check_quality(report, LIMIT, name="handbook")
    assert by_headings.seconds < 120  # 2.6 s on two idle cores

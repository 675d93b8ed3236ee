"""Evaluations from the question to the page, on a real index with a model of words."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from include.collection_file import Retrieval
from include.errors import BadConfiguration, BadData
from include.evaluation.answer_scores import Abstention, abstention, contains, exact_match, token_f1
from include.evaluation.answering import Answered, describe
from include.evaluation.cases import golden_cases
from include.evaluation.configuration import Configuration, override
from include.evaluation.dense_weight import Pool as Candidates
from include.evaluation.dense_weight import choose, fit
from include.evaluation.dense_weight_run import fit_collection
from include.evaluation.evaluate import NothingToAsk, Options, evaluate
from include.evaluation.golden import from_feedback
from include.evaluation.judge import Judged, judge, read_grade, tally
from include.evaluation.page import render
from include.progress import Silent
from include.store import collections, evaluations, golden
from include.store.forgotten import forget
from include.store.golden import GoldenQuery, GoldenSpan
from include.store.pool import open_pool
from include.store.search import Hit
from tests.evaluation.two_generations import WordsEmbedder
from tests.support import index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from include.config import Settings
    from include.evaluation.evaluate import Options as Asked
    from include.store.evaluations import Evaluation
    from include.store.pool import Pool

MODEL = WordsEmbedder()
TOPICS = [a + b for a in ("amber", "birch", "cedar", "delta", "ember", "fjord") for b in (" lake", " road", " tower", " guild")]


class _Place:
    """A collection of pages with a restricted one among them, and its golden queries."""

    def __init__(self, settings: Settings, pool: Pool, name: str) -> None:
        self.settings, self.pool, self.name = settings, pool, name
        with pool.connection() as connection:
            self.collection = collections.collection_id(connection, name)

    def ask(self, **options: Any) -> Evaluation:
        wanted: Asked = Options(**options)
        return evaluate(self.settings, self.pool, self.name, wanted, progress=Silent(), embedder=MODEL)

    def save(self, *queries: GoldenQuery) -> None:
        with self.pool.connection() as connection:
            golden.save(connection, self.collection, queries)


@pytest.fixture
def place(settings: Settings, documents: Path, collection: Callable[..., str]) -> Iterator[_Place]:
    for number, topic in enumerate(TOPICS):
        (documents / f"{number}.md").write_text(f"# The {topic}\n\nThe {topic} was opened in {1900 + number}, it is said.\n")
    name = collection()
    index(settings, name, embedder=MODEL)
    with open_pool(settings) as pool:
        with pool.connection() as connection:
            connection.execute("update ragworks.generation_document set acl = '{hr}' where document_id = 1")
        made = _Place(settings, pool, name)
        made.save(*(_about(number) for number in range(len(TOPICS))))
        yield made


def _about(number: int, **others: Any) -> GoldenQuery:
    metadata = {"kind": TOPICS[number].split()[1]}
    spans = (GoldenSpan(f"{number}.md"),)
    return GoldenQuery(f"When was the {TOPICS[number]} opened?", spans, metadata, answer=str(1900 + number), **others)


def test_golden_queries_are_scored_sliced_kept_and_drawn(place: _Place) -> None:
    made = place.ask(mode="dense")
    report = made.report
    assert report["questions"] == {"origin": "golden", "queries": 24, "left_out": 0, "unanswerable": 0}
    assert report["measures"]["ndcg@10"]["value"] > 0.9, "also the page that only hr may see is found"
    assert report["measures"]["recall@10"]["value"] == 1.0
    assert set(report["slices"]) == {"kind"}
    assert {value: one["queries"] for value, one in report["slices"]["kind"].items()} == dict.fromkeys(
        ("lake", "road", "tower", "guild"), 6
    )
    assert len(report["scores"]["rows"]) == 24
    assert report["passport"]["generation"] == made.generation_id
    with place.pool.connection() as connection:
        stored = evaluations.load(connection, place.collection, made.id)
        assert evaluations.load(connection, place.collection + 1, made.id) is None
    assert stored is not None
    assert stored.report == json.loads(json.dumps(report))
    page = render(stored, place.name)
    assert page.count("<svg") == 3
    assert not re.search(r"""(src|href)=["'](https?:)?//""", page), "the page needs no network"
    assert "0.9" in page


def test_the_same_is_no_different_and_worse_is_worse(place: _Place) -> None:
    made = place.ask(mode="lexical", against=("mode=dense", "candidates=50"), clients=3)
    found = made.report
    assert found["a_a"]["passed"]
    assert found["a_a"]["verdict"] == "no difference"
    assert found["a_a"]["differing"] == 0
    assert set(found["comparison"]["measures"]) == {"ndcg@10", "recall@10", "mrr@10", "map@10", "precision@10"}
    assert found["latency"]["clients"] == 3
    assert made.configuration["against"]["mode"] == "dense"
    assert made.configuration["against"]["retrieval"]["candidates"] == 50
    assert made.name == "lexical against mode=dense, candidates=50"
    assert "asked twice" in render(made, place.name)
    place.save(*(replace(_about(n), spans=(GoldenSpan(f"{(n + 1) % len(TOPICS)}.md"),)) for n in range(len(TOPICS))))
    assert place.ask(mode="dense").report["worst"], "a wrong answer is shown"


def test_another_generation_is_compared(place: _Place, settings: Settings, collection: Callable[..., str]) -> None:
    live = place.ask().generation_id
    collection(chunking={"max_tokens": 8}, retrieval={"mode": "dense"})
    index(settings, place.name, embedder=MODEL)
    made = place.ask(against=(f"generation={live}",))
    assert made.generation_id != live
    assert made.configuration["mode"] == "dense", "the file's settings hold"
    assert made.configuration["against"]["generation"] == live
    first = made.report["comparison"]["measures"]["ndcg@10"]
    assert first["queries"] == 24
    assert first["champion"] != first["challenger"], "scraps of eight tokens are found otherwise"
    with pytest.raises(BadConfiguration, match="generation 99: handbook can answer from"):
        place.ask(against=("generation=99",))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("mode=best", "mode=best: there is no such mode"),
        ("weight=1", "not a setting.*dense_weight"),
        ("dense_weight", "Write KEY=VALUE"),
        ("dense_weight=2", "dense_weight=2: Input should be less"),
        ("rerank=yes", "neither true nor false"),
        ("generation=new", "not a generation's id"),
    ],
)
def test_impossible_settings_are_refused(setting: str, message: str) -> None:
    with pytest.raises(BadConfiguration, match=message):
        override(Configuration(1, "hybrid", None, Retrieval()), [setting])


def test_nothing_to_ask_says_why(place: _Place) -> None:
    with place.pool.connection() as connection:
        golden.delete_all(connection, place.collection)
    with pytest.raises(NothingToAsk, match="has no golden queries"):
        place.ask()
    place.save(GoldenQuery("gone", (GoldenSpan("gone.md"),)))
    with pytest.raises(NothingToAsk, match="none of its 1 golden queries is answered"):
        place.ask()
    with pytest.raises(BadData, match="cannot be fitted"):
        fit_collection(place.settings, place.pool, place.name, None, None, progress=Silent(), embedder=MODEL)


def test_unanswerable_questions_are_kept_apart(place: _Place) -> None:
    place.save(GoldenQuery("Who owns the moon?", (), answerable=False))
    made = place.ask()
    assert (made.report["questions"]["queries"], made.report["questions"]["unanswerable"]) == (24, 1)
    with place.pool.connection() as connection:
        cases = golden_cases(connection, place.collection, made.generation_id or 0)
        counts = golden.count(connection, place.collection)
        listed = list(golden.golden_queries(connection, place.collection))
    assert [query.query for query in cases.unanswerable] == ["Who owns the moon?"]
    assert (counts.queries, counts.unanswerable, counts.missing) == (25, 1, 0)
    assert (listed[0].answer, listed[-1].spans, listed[-1].answerable) == ("1900", (), False)


def test_answers_are_scored_by_extracts(place: _Place) -> None:
    place.save(GoldenQuery("Which zebra composed the quartet of Vienna?", (), answerable=False))
    made = place.ask(answers=True)
    found = made.report["answers"]
    assert "right answer stands in it" in render(made, place.name)
    assert (found["questions"], found["with_right_answer"], found["extractive"], found["judge"]) == (25, 24, True, None)
    assert found["abstention"]["unanswerable"] == 1
    assert found["abstention"]["recall"] == 1.0
    assert found["contains"]["value"] == 1 - found["abstention"]["needless"], "what is answered is the sentence with the year"


def test_forgetting_a_document_takes_it_out_of_reports(place: _Place) -> None:
    wrong = [replace(_about(n), spans=(GoldenSpan(f"{(n + 7) % 24}.md"),)) for n in range(24)]
    place.save(*wrong)
    made = place.ask(mode="dense")
    assert any("3.md" in entry["documents"] for entry in made.report["worst"])
    with place.pool.connection() as connection:
        erased = forget(connection, place.collection, "3.md")
        left = evaluations.load(connection, place.collection, made.id)
        answers = [q.answer for q in golden.golden_queries(connection, place.collection)]
    assert erased.tables["evaluation"] == 1
    assert left is not None
    assert "3.md" not in re.findall(r"\b\d+\.md", json.dumps(left.report))
    assert len(answers) == 23


def _feedback(place: _Place, question: str, document: str, state: str, **others: Any) -> None:
    with place.pool.connection() as connection:
        row = connection.execute(
            "insert into ragworks.query_log (collection_id, kind, query) values (%s, 'search', %s) returning id",
            (place.collection, question),
        ).fetchone()
        values = {"query_id": row[0] if row else None, "document": document, "state": state, **others}
        names = ", ".join(values)
        connection.execute(
            f"insert into ragworks.feedback ({names}) values ({', '.join(['%s'] * len(values))})",  # type: ignore[arg-type]
            list(values.values()),
        )


def test_accepted_feedback_becomes_golden_and_twice_is_once(place: _Place) -> None:
    _feedback(place, "the lake", "0.md", "accepted", start_char=2, end_char=10, answer="1900")
    _feedback(place, "the lake", "4.md", "accepted")
    _feedback(place, "the road", "1.md", "new")
    _feedback(place, "beyond", "2.md", "accepted", start_char=5, end_char=99_999)
    _feedback(place, "gone", "gone.md", "accepted")
    _feedback(place, _about(3).query, "5.md", "accepted")
    for _ in range(2):
        with place.pool.connection() as connection:
            made, kept = from_feedback(connection, place.collection)
            golden.save(connection, place.collection, made)
            held = {q.query: q for q in golden.golden_queries(connection, place.collection)}
        assert kept == 1, "what a person gave stays"
        assert held[_about(3).query].spans == (GoldenSpan("3.md"),)
        assert held["the lake"] == GoldenQuery(
            "the lake", (GoldenSpan("0.md", 2, 10), GoldenSpan("4.md")), origin="feedback", answer="1900"
        )
        assert held["beyond"].spans == (GoldenSpan("2.md"),)
        assert len(held) == 26


def _pool(number: int, dense_is_right: bool) -> Candidates:
    hits = tuple(Hit(d, 0, 0, 1, "", 0.0, {}) for d in ("right", "wrong", "other"))
    good, bad = np.array([0.9, 0.5, 0.1]), np.array([0.5, 0.9, 0.1])
    dense, lexical = (good, bad) if dense_is_right else (bad, good)
    return Candidates(GoldenQuery(str(number), (GoldenSpan("right"),)), hits, dense, lexical, 100)


def test_the_weight_follows_the_leg_that_is_right() -> None:
    for right in (True, False):
        found = fit([_pool(n, right) for n in range(60)], 0.0 if right else 1.0)
        assert (found.weight > 0.5) == right
        assert found.gain.outcome == "better"
        assert found.recommended == found.weight
        assert (found.held_out, found.curve[20 if right else 0][1]) == (1.0, 1.0)


def test_without_a_sure_gain_the_weight_stays() -> None:
    same = fit([_pool(n, n % 2 == 0) for n in range(60)], 0.35)
    assert same.gain.outcome != "better"
    assert same.recommended == 0.35


def test_the_middle_of_the_best_is_taken() -> None:
    flat, low = np.full(50, 0.8), np.full(50, 0.2)
    assert choose({0.0: low, 0.25: flat, 0.5: flat, 0.75: flat, 1.0: low}) == 0.5


def test_fit_asks_for_all_candidates_of_an_index(place: _Place) -> None:
    cases, found = fit_collection(place.settings, place.pool, place.name, None, None, progress=Silent(), embedder=MODEL)
    assert (len(cases.queries), found.queries, found.present_weight) == (24, 24, 0.55)
    assert {weight for weight, _ in found.curve} >= {0.0, 0.55, 1.0}
    assert found.present == pytest.approx(place.ask(mode="hybrid").report["measures"]["ndcg@10"]["value"], abs=1e-4)


def test_words_are_compared_as_squad_does() -> None:
    assert exact_match("The  Eiffel Tower!", "eiffel tower") == 1.0
    assert exact_match("Eiffel", "eiffel tower") == 0.0
    assert token_f1("in the year 1900", "1900") == pytest.approx(2 * 1 / (3 + 1))
    assert (token_f1("", ""), token_f1("the", "a"), token_f1("x", ""), token_f1("red", "blue")) == (1.0, 1.0, 0.0, 0.0)
    assert token_f1("a a b", "b b c") == pytest.approx(2 * 1 / (1 + 3))  # articles go, one b is shared
    assert (contains("It was 1900, they say", "1900"), contains("It was 19001", "1900")) == (1.0, 0.0)


def test_abstention_by_hand() -> None:
    found = abstention([True, True, True, False, False], [True, False, False, True, False])
    assert found == Abstention(3, 2, 2, 0.5, 0.5, pytest.approx(1 / 3, abs=1e-4))
    assert abstention([True], [False]) == Abstention(1, 0, 0, None, None, 0.0)


class _Replies:
    """Stands for an LLM whose words are known; the client itself is tested with the answers."""

    def __init__(self, *texts: str) -> None:
        self.texts, self.asked = list(texts), []  # type: ignore[var-annotated]

    def complete(self, messages: Any, max_tokens: int, temperature: float) -> Any:
        self.asked.append((messages, temperature))
        return type("Completion", (), {"text": self.texts.pop(0)})


def test_a_judge_that_contradicts_itself_is_shown_to() -> None:
    llm = _Replies("CORRECT", "wrong.", "Correct", "no idea")
    assert judge(llm, "q", "right", "given", repeats=4) == Judged(pytest.approx(2 / 3), pytest.approx(2 / 3), 1)  # type: ignore[arg-type]
    assert all(temperature > 0 for _, temperature in llm.asked)
    bodies = {messages[1]["content"] for messages, _ in llm.asked}
    assert len(bodies) == 1
    assert all("given" in body for body in bodies)
    assert read_grade("INCORRECT") is None, "not a word of ours: no grade is guessed"
    assert read_grade("CORRECT or WRONG") is None
    assert tally([None]) == Judged(None, None, 1)


def test_answers_are_described() -> None:
    def said(number: int, *, abstained: bool, right: float | None) -> Answered:
        source = Hit(f"{number}.md", 0, 0, 1, "", 0.0, {})
        given = type("A", (), {"text": "given", "abstained": abstained, "extractive": False, "groundedness": 1.0,
                               "sources": (source,)})  # fmt: skip
        judged = None if right is None else Judged(right, 1.0, 0)
        return Answered(_about(number), given, 0.0, 0.5, 1.0, judged)  # type: ignore[arg-type]

    found = describe([said(0, abstained=False, right=1.0), said(1, abstained=True, right=None)], judge_model="m", repeats=3)
    assert found["judge"]["right"]["value"] == 0.5, "an abstention is not right"
    assert found["judge"]["judged"] == 1
    assert [entry["documents"] for entry in found["worst"]] == [["0.md"], ["1.md"]]

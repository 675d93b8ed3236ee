"""What counts as a word."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from include.lexical.terms import MAX_TERM, Analyzer, analyzer


@pytest.mark.parametrize(
    ("one", "other", "language"),
    [
        ("Indexes", "indexing", "english"),
        ("STRASSE", "Straße".upper(), "german"),
        ("naïve", "nai\u0308ve", None),  # composed and decomposed
        ("ﬁle", "file", None),  # a ligature
        ("Häuser", "Haus", "german"),
        ("run_id=5", "RUN_ID 5", None),
    ],
)
def test_the_same_word(one: str, other: str, language: str | None) -> None:
    assert Analyzer(language).terms(one) == Analyzer(language).terms(other) != {}


def test_different_words() -> None:
    words = Analyzer(None)
    assert words.terms("max_tokens") != words.terms("max_token")
    assert not words.terms("Indexes").keys() & words.terms("Indexing").keys()


def test_stop_words_are_those_of_the_language() -> None:
    assert not Analyzer("english").terms("To be or not to be, what is it? You don't")
    assert not Analyzer("german").terms("und wenn nicht, dann ohne ihn")
    assert Analyzer("german").terms("the")
    assert Analyzer(None).terms("the")
    assert Analyzer("tamil").terms("the")


def test_counts() -> None:
    assert sorted(Analyzer("english").terms("error error ERRORS warning").values()) == [1, 3]


def test_scripts_without_spaces_are_cut_into_pairs() -> None:
    words = Analyzer(None)
    assert words.terms("東京都").total() == 2
    assert words.terms("東京都").keys() >= words.terms("東京").keys()
    assert words.terms("京").total() == 1
    assert words.terms("v2東京") == words.terms("v2 東京")


def test_vowel_marks_belong_to_their_words() -> None:
    assert Analyzer("hindi").terms("हिन्दी किताबें").total() == 2
    assert Analyzer("hindi").terms("किताबें") == Analyzer("hindi").terms("किताब")


@pytest.mark.parametrize("text", ["", " \n", "…—!?", "\u200b"])
def test_no_words(text: str) -> None:
    assert not analyzer("english").terms(text)


def test_any_character_may_come() -> None:
    numbers = analyzer("english").terms("half a pair \ud800 and \U0001f600 and ９９ and \x01")
    assert all(1 <= number <= MAX_TERM for number in numbers)


def test_threads_cut_alike() -> None:
    texts = [f"generations indexes {i} running queries{i % 7} embeddings" for i in range(400)]
    expected = [Analyzer("english").terms(text) for text in texts]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(Analyzer("english").terms, texts)) == expected


@pytest.mark.parametrize("identifier", ["dag_run_conf", "DagRunConf", "dagRunConf", "__dag_run_conf__"])
def test_identifiers_are_found_by_their_parts_and_as_they_are(identifier: str) -> None:
    words = Analyzer("english")
    found = words.terms(identifier)
    assert found.keys() > words.terms("dag run conf").keys()
    assert len(found) == 4


def test_words_that_are_no_identifiers_are_counted_once() -> None:
    assert Analyzer("english").terms("Airflow OAuth2 SQL 3.3.2 BM25").total() == 7


def test_plain_text_is_cut_as_any_other() -> None:
    """The quick way for ASCII: with one other letter the whole text takes the long one."""
    plain = "".join(map(chr, range(128))) + " dag_run DagRun x__y _z 3.5e-7 a'b C++ __init__\t\x1fend"
    words = Analyzer(None)
    other = words.terms("naïve")
    assert words.terms(plain) + other == words.terms(f"{plain} naïve")

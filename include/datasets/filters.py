"""Which questions are worth training on: pure functions of question and passage, each with its reason by name."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from include.answering.words import words
from include.indexing.near_duplicates import shingles

MIN_WORDS = 2  # of one word nobody can tell what is asked
MAX_CHARACTERS = 500  # longer ones are texts, not questions; guardrails let users ask up to 4,000
FOREIGN = 0.3  # share of letters of a script that the passage does not have
# A made question that repeats six content words of its passage in a row, and they are most of it, was copied and teaches to
# match strings. Of questions that people asked, of 500 each: scifact 1 %, so-airflow 0.2 %, chunking-eval 2 %, squad-a 4 %,
# medquad 4 % (names of diseases); of zenml-docs-qa, which seem to be made by an LLM, 13 %.
COPIED_WORDS, COPIED_SHARE = 6, 0.7

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]|\w+")  # scripts without spaces: a character each
_NOT_WORD = re.compile(r"[^\w]+")
_BROKEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ufffd\ud800-\udfff]")


def normalised(text: str) -> str:
    """By which two questions are the same: without case, punctuation, compatibility forms and spacing."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _NOT_WORD.sub(" ", folded).strip() or " ".join(folded.split())


def problem(query: str, passage: str | None = None) -> str | None:
    """Why a question is not taken: ``too_short``, ``too_long``, ``broken_characters``, ``other_script``; None: it is.

    :param passage: None: not known yet, the script is not compared.
    """
    if _BROKEN.search(query):
        return "broken_characters"
    if len(_WORD.findall(query)) < MIN_WORDS:
        return "too_short"
    if len(query) > MAX_CHARACTERS:
        return "too_long"
    return "other_script" if passage is not None and foreign_share(query, passage) > FOREIGN else None


def is_copied(query: str, passage: str) -> bool:
    """Whether a made question is a piece of its passage."""
    asked = words(query)
    run = longest_run(asked, words(passage))
    return run >= COPIED_WORDS and run >= COPIED_SHARE * len(asked)


def longest_run(left: list[str], right: list[str]) -> int:
    """Length of the longest sequence of words that stands in both."""
    best, before = 0, [0] * (len(right) + 1)
    for word in left:
        here = [0] * (len(right) + 1)
        for place, other in enumerate(right, 1):
            if word == other:
                here[place] = before[place - 1] + 1
        best, before = max(best, *here), here
    return best


def foreign_share(query: str, passage: str) -> float:
    """Share of a question's letters whose script the passage does not use, 0 to 1."""
    there = {_script(sign) for sign in passage if sign.isalpha()}
    asked = [_script(sign) for sign in query if sign.isalpha()]
    return sum(script not in there for script in asked) / len(asked) if asked and there else 0.0


def same_passage(left: str, right: str, threshold: float) -> bool:
    """Two passages that say the same, by the share of word triples that they have in common."""
    if normalised(left) == normalised(right):
        return True
    one, other = shingles(left), shingles(right)
    return len(one & other) >= threshold * len(one | other)


@lru_cache(maxsize=10_000)
def _script(letter: str) -> str:
    """LATIN, GREEK, CYRILLIC, …; Han and the two kana, which one language mixes, count as one."""
    name = unicodedata.name(letter, "UNKNOWN").split()[0].split("-")[0]
    return "CJK" if name in ("HIRAGANA", "KATAKANA", "CJK") else name

"""Cuts a text into terms: the words that BM25 counts, as numbers.

A term's number is a hash, so there is no vocabulary to keep in step between workers, machines and generations. Of a million
different words some 500 pairs share a number, which costs a little precision and never a match.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import cache
from hashlib import blake2b
from threading import Lock

import regex

TERMS_VERSION = 1  # raise it when the same text may be cut otherwise: a new generation is then built
MAX_TERM = 1_000_000_000  # pgvector's most dimensions of a sparsevec; terms are numbered from 1, as it writes them

# Words too frequent to tell chunks apart, by bm25s's lists: of English the long one (that of NLTK), with which every judged
# collection is answered better than with Lucene's 33 words (bench/retrieval.py), and a chunk has a tenth fewer terms.
_STOP_WORD_LISTS = {
    "danish": "DANISH", "dutch": "DUTCH", "english": "EN_PLUS", "french": "FRENCH", "german": "GERMAN", "italian": "ITALIAN",
    "norwegian": "NORWEGIAN", "portuguese": "PORTUGUESE", "russian": "RUSSIAN", "spanish": "SPANISH", "swedish": "SWEDISH",
    "turkish": "TURKISH",
}  # fmt: skip
# Words, where a script writes them apart; Chinese, Japanese and Korean runs are cut into pairs, as Lucene's CJKAnalyzer does.
_CJK = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_WORD = regex.compile(rf"(?V1)[{_CJK}]+|[[\w\p{{M}}]--[{_CJK}]]+")  # with marks: the vowels of Hindi, Tamil and others
_ASCII_WORD = re.compile(r"\w+", re.ASCII)
_IS_CJK = re.compile(rf"[{_CJK}]")
# Where an identifier is joined: dag_run, DagRun. Whole and in parts, it is found by what it speaks of: nDCG@10 of so-airflow
# by words alone 0.395 without and 0.447 with the parts (bench/retrieval.py).
_JOINT = re.compile(r"_+|(?<=[a-z0-9])(?=[A-Z])")


class Analyzer:
    """Terms of texts in one language; thread-safe, and quicker the more it has seen.

    :param language: Snowball's name of it; None: words are not cut to their stems.
    """

    def __init__(self, language: str | None) -> None:
        self._stop_words = _stop_words(language)
        self._stem = _stemmer(language)
        self._known: dict[str, tuple[int, ...]] = {}

    def terms(self, text: str) -> Counter[int]:
        """How often each term stands in the text."""
        return Counter(self.sequence(text))

    def sequence(self, text: str) -> list[int]:
        """The terms in the order of the text."""
        known, found = self._known, list[int]()
        for word in _words(text):
            numbers = known.get(word)
            found += self._numbers(word) if numbers is None else numbers
        return found

    def _numbers(self, word: str) -> tuple[int, ...]:
        """The terms of a word as it is written."""
        numbers = self._known.get(word)
        if numbers is None:
            if len(self._known) >= _REMEMBERED:
                self._known = {}
            parts = [part.lower() for part in _parts(word)]
            numbers = self._known[word] = tuple(_hash(self._stem(p)) for p in parts if p not in self._stop_words)
        return numbers


def _words(text: str) -> list[str]:
    if text.isascii():
        return _ASCII_WORD.findall(text)  # the same words, in a third of the time
    return list(_WORD.findall(unicodedata.normalize("NFKC", text)))


def _parts(word: str) -> list[str]:
    if _IS_CJK.match(word):
        return [word[i : i + 2] for i in range(max(1, len(word) - 1))]
    parts = [part for part in _JOINT.split(word) if part]
    return [word, *parts] if len(parts) > 1 else parts


_REMEMBERED = 500_000  # words, about 60 MB


@cache
def analyzer(language: str | None) -> Analyzer:
    """The analyzer of a language, one a process."""
    return Analyzer(language)


def _hash(stem: str) -> int:
    return int.from_bytes(blake2b(stem.encode(errors="surrogatepass"), digest_size=8).digest(), "little") % MAX_TERM + 1


class _Stemmer:
    """PyStemmer's objects are not to be used by two threads at once."""

    def __init__(self, language: str) -> None:
        import Stemmer

        self._stemmer, self._lock = Stemmer.Stemmer(language), Lock()

    def __call__(self, word: str) -> str:
        with self._lock:
            return str(self._stemmer.stemWord(word))


def _stop_words(language: str | None) -> frozenset[str]:
    """Of a language without a list none: BM25 makes frequent words count little by itself."""
    name = _STOP_WORD_LISTS.get(language or "")
    if name is None:
        return frozenset()
    from bm25s import stopwords

    return frozenset(getattr(stopwords, f"STOPWORDS_{name}"))


def _stemmer(language: str | None) -> _Stemmer | type[str]:
    return str if language is None else _Stemmer(language)

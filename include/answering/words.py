"""The words that carry a text's meaning, without their endings: by these a sentence is compared with a question."""

from __future__ import annotations

import math
import re
import threading
import unicodedata
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_WORD = re.compile(r"\d+(?:[.,]\d+)+|\w+(?:['’]\w+)?")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")  # Chinese, Japanese, Korean: a character is a word

# Function words and the words questions are made of. Those of other languages are told by their frequency alone.
_ENGLISH = frozenset(
    re.findall(
        r"\w+",
        "a an and any are as at be been being but by can could did do does doing for from get give had has "
        "have having he her here his how i if in into is it its kind many may me might more most much must my "
        "name of on one or our s shall she should so some such t than that the their them then there these they this "
        "those to too type us was we were what when where which who whom whose why will with would you your",
    )
)
_local = threading.local()


def words(text: str, language: str | None = "english") -> list[str]:
    """Stems of the content words of a text in order, repeated as they are.

    :param language: whose endings are cut off (Snowball); None: words as they are written, in lower case.
    """
    return [_stem(word, language) for word in _raw(text) if not (language == "english" and word in _ENGLISH)]


def numbers(text: str) -> set[str]:
    """The figures in a text, without separators of thousands."""
    return {n.rstrip(".,").replace(",", "") for n in _NUMBER.findall(unicodedata.normalize("NFKC", text))}


def weights(asked: Iterable[str], pieces: Sequence[Iterable[str]]) -> dict[str, float]:
    """How much each word tells: the logarithm of how rare it is among the pieces (inverse document frequency)."""
    seen = Counter(word for piece in pieces for word in set(piece))
    return {word: math.log((len(pieces) + 1.5) / (seen[word] + 0.5)) for word in asked}


def coverage(weight: Mapping[str, float], piece: Iterable[str]) -> float:
    """Share of the words, by weight, that a piece has, 0 to 1; 0 when there are none."""
    total = sum(weight.values())
    has = set(piece)
    return sum(w for word, w in weight.items() if word in has) / total if total > 0 else 0.0


def _raw(text: str) -> list[str]:
    found: list[str] = []
    for word in _WORD.findall(unicodedata.normalize("NFKC", text).casefold()):
        found += list(word) if _UNSPACED.search(word) else [word.replace("’", "'").removesuffix("'s").replace(",", "")]
    return found


def _stem(word: str, language: str | None) -> str:
    return word if language is None else _cached(word, language)


@lru_cache(maxsize=50_000)
def _cached(word: str, language: str) -> str:
    return str(_stemmer(language).stemWord(word))


def _stemmer(language: str) -> Any:
    """One a thread: a Snowball stemmer is not safe to share."""
    import Stemmer

    known: dict[str, Any] = _local.__dict__.setdefault("stemmers", {})
    if language not in known:
        known[language] = Stemmer.Stemmer(language)
    return known[language]

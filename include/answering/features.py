"""What tells whether the passages hold the answer: numbers from 0 to 1 that a question and its passages give."""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise
from typing import TYPE_CHECKING

from include.answering.words import coverage, numbers, words

if TYPE_CHECKING:
    from include.answering.reading import Reading, Sentence

NAMES = (
    "sentence", "anywhere", "pairs", "names", "figures", "negation", "type", "cosine", "lead",
)  # fmt: skip

_NAME = re.compile(r"(?<=[\w,] )[A-Z][\w'’.-]+|\b\w*\d\w*\b")
_NEGATION = re.compile(r"\b(?:not|no|never|none|nobody|neither|nor|without|cannot|n't)\b|n['’]t\b", re.IGNORECASE)
_ASKS_FIGURE = re.compile(
    r"\b(?:how (?:many|much|long|old|far|tall|high|large|big)|when|what (?:year|date|percentage))\b", re.IGNORECASE
)
_ASKS_NAME = re.compile(r"\b(?:who|whom|whose|where|which (?:person|city|country))\b", re.IGNORECASE)
_WRITTEN_NUMBER = re.compile(
    r"\b(?:one|two|three|four|five|six|seven|eight|nine|ten|hundred|thousand|million|billion)\b", re.IGNORECASE
)
_CAPITAL = re.compile(r"\b[A-Z]\w+")


def features(reading: Reading) -> dict[str, float]:
    """By the names in :data:`NAMES`; without an embedder ``cosine`` and ``lead`` are 0.

    - sentence, anywhere: share of the question's words, by their rarity, in the best sentence, and in all together
    - pairs: share of its neighbouring words that stand near each other in the best sentence
    - names, figures: share of its capitalised words, and of its numbers, that the best passage has
    - negation: 1 when only one of question and best sentence denies
    - type: 1 when it asks for a figure or a name and the best sentence holds no new one
    - cosine: of the nearest sentence; lead: how far it is ahead of the average one
    """
    if not reading.sentences or not reading.asked:
        return dict.fromkeys(NAMES, 0.0)
    best = best_sentence(reading)
    passage = reading.passages[best.source]
    cosines = [s.cosine for s in reading.sentences if s.cosine is not None]
    return {
        "sentence": best.coverage,
        "anywhere": coverage(reading.weights, (w for s in reading.sentences for w in s.words)),
        "pairs": _pairs(reading.asked, best.words),
        "names": _share(_names(reading.question), passage),
        "figures": _figures(reading.question, passage),
        "negation": float(bool(_NEGATION.search(reading.question)) != bool(_NEGATION.search(best.text))),
        "type": float(_lacks_type(reading.question, best.text)),
        "cosine": max(cosines, default=0.0),
        "lead": max(cosines) - sum(cosines) / len(cosines) if cosines else 0.0,
    }


def best_sentence(reading: Reading) -> Sentence:
    """The one that most likely answers: by words, and by meaning where that was compared; the earlier of two alike.

    Headings and questions have the words of a question and no answer: they are taken only where there is nothing else.
    """
    return max(answering(reading), key=lambda s: (score(s), -s.source, -s.start))


def answering(reading: Reading) -> list[Sentence]:
    """The sentences that can be an answer; all of them if none can."""
    return [s for s in reading.sentences if not _says_nothing(s)] or list(reading.sentences)


def _says_nothing(sentence: Sentence) -> bool:
    """A heading, a question, or a block of code, which may hold the question itself as an example."""
    text = sentence.text
    is_title = sentence.start == 0 and len(text) < 100 and not text.endswith((".", "!", "。", "…", '"', "”", ":", ";", "|"))
    return text.startswith(("#", "```")) or text.endswith(("?", "？")) or is_title


def score(sentence: Sentence) -> float:
    """Words and meaning half and half, 0 to 1."""
    return sentence.coverage if sentence.cosine is None else (sentence.coverage + max(sentence.cosine, 0.0)) / 2


def _pairs(asked: tuple[str, ...], held: tuple[str, ...], near: int = 4) -> float:
    places: dict[str, list[int]] = {}
    for place, word in enumerate(held):
        places.setdefault(word, []).append(place)
    pairs = list(pairwise(asked))
    close = [any(abs(a - b) <= near for a in places.get(x, ()) for b in places.get(y, ())) for x, y in pairs]
    return sum(close) / len(pairs) if pairs else 1.0


def _names(question: str) -> list[str]:
    return [w.casefold() for name in _NAME.findall(question) for w in words(name, None)]


def _share(asked: list[str], passage: str) -> float:
    held = set(words(passage, None))
    return sum(word in held for word in asked) / len(asked) if asked else 1.0


def _figures(question: str, passage: str) -> float:
    asked = numbers(question)
    return len(asked & numbers(passage)) / len(asked) if asked else 1.0


def _lacks_type(question: str, sentence: str) -> bool:
    plain = unicodedata.normalize("NFKC", sentence)
    if _ASKS_FIGURE.search(question):
        return not (numbers(plain) - numbers(question)) and not _WRITTEN_NUMBER.search(plain)
    if _ASKS_NAME.search(question):
        return not ({w.casefold() for w in _CAPITAL.findall(plain[1:])} - set(words(question, None)))
    return False

"""Whether a conversation says what it must not: something that judges, or that stands on another side. Pure.

A text counts when it is equal to one that is held out, holds it whole, or is nearly the same. Nearly the same: the share of
word triples in common (Jaccard). Every such pair is found, without comparing each with each, by prefix filtering: Bayardo, Ma
and Srikant, "Scaling up all pairs similarity search" (2007).
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from include.datasets.filters import normalised
from include.indexing.near_duplicates import shingles

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Key = TypeVar("Key")
How = Literal["equal", "contained", "near_duplicate"]

MIN_WORDS = 6  # a shorter text counts only when it is equal: "what is it for" is in many
LONG_ANSWER = 12  # words from which two equal answers are one thing learned twice, and not both "yes"
ANCHOR = 5  # words by which a text is looked for inside others


@dataclass(frozen=True, slots=True)
class Match(Generic[Key]):
    """A held-out text that was met.

    :param key: of that text.
    :param how: equal, contained (it stands in the text that was looked at) or near_duplicate.
    """

    key: Key
    how: How


class HeldOut(Generic[Key]):
    """Texts that must not be met again.

    :param texts: with a key each.
    :param threshold: share of word triples from which two are the same.
    """

    def __init__(self, texts: Iterable[tuple[Key, str]], threshold: float) -> None:
        self._threshold = threshold
        self._keys: list[Key] = []
        self._plain: list[list[str]] = []
        self._equal: dict[str, int] = {}
        self._anchors: dict[tuple[str, ...], list[int]] = {}
        for key, text in texts:
            plain = normalised(text)
            if plain and plain not in self._equal:
                self._equal[plain] = len(self._keys)
                self._keys.append(key)
                self._plain.append(plain.split())
        self._long = [n for n, words in enumerate(self._plain) if len(words) >= MIN_WORDS]
        for number in self._long:
            self._anchors.setdefault(tuple(self._plain[number][:ANCHOR]), []).append(number)
        self._sets = {number: shingles(" ".join(self._plain[number])) for number in self._long}
        self._rarity = Counter(one for held in self._sets.values() for one in held)
        self._prefixes: dict[int, list[int]] = {}
        for number, held in self._sets.items():
            for one in self._prefix(held):
                self._prefixes.setdefault(one, []).append(number)

    def __len__(self) -> int:
        return len(self._keys)

    def match(self, text: str, whole: str | None = None) -> Match[Key] | None:
        """The first held-out text that a text is, holds or resembles.

        :param whole: a longer text, in which they are looked for; None: the same.
        """
        return next(self.matches(text, whole), None)

    def matches(self, text: str, whole: str | None = None) -> Iterator[Match[Key]]:
        """All of them, each once: equal ones first."""
        plain = normalised(text)
        seen: set[int] = set()
        equal = self._equal.get(plain)
        if equal is not None:
            seen.add(equal)
            yield Match(self._keys[equal], "equal")
        found = ((n, "contained") for n in self._contained(plain if whole is None else normalised(whole)))
        for number, how in (*found, *((n, "near_duplicate") for n in self._similar(plain))):
            if number not in seen:
                seen.add(number)
                yield Match(self._keys[number], how)  # type: ignore[arg-type]

    def _contained(self, plain: str) -> Iterator[int]:
        words = plain.split()
        for position in range(len(words) - ANCHOR + 1):
            for number in self._anchors.get(tuple(words[position : position + ANCHOR]), ()):
                held = self._plain[number]
                if words[position : position + len(held)] == held:
                    yield number

    def _similar(self, plain: str) -> Iterator[int]:
        if len(plain.split()) < MIN_WORDS:
            return
        asked = shingles(plain)
        candidates = {number for one in self._prefix(asked) for number in self._prefixes.get(one, ())}
        for number in sorted(candidates):
            held = self._sets[number]
            if len(asked & held) >= self._threshold * len(asked | held):
                yield number

    def _prefix(self, held: set[int]) -> Sequence[int]:
        """The rarest triples, so many that two similar texts share one of them."""
        needed = len(held) - math.ceil(self._threshold * len(held)) + 1
        return sorted(held, key=lambda one: (self._rarity.get(one, 0), one))[:needed]

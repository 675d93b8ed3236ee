"""Finds personal data in a text and puts its kind in its place: ``<EMAIL_ADDRESS>``."""

from __future__ import annotations

import difflib
from collections import Counter
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from include.errors import BadConfiguration
from include.privacy.forms import plain
from include.privacy.kinds import KINDS, Kind
from include.privacy.recognisers import build

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from include.collection_file import Privacy

_VERSION = 2  # raise it when the same text may come out otherwise
_LIBRARIES = ("presidio_analyzer", "phonenumbers", "tldextract")  # the last two hold data that changes what is found

# Patterns may take quadratic time in what they see at once, and Presidio gives a pattern up after a minute.
_WINDOW = 8192


def open_scrubber(privacy: Privacy) -> Scrubber | None:
    """The scrubber of these settings, one a process; None when nothing is to be scrubbed.

    :raises BadConfiguration: a kind that does not exist.
    """
    for kind in privacy.scrub:
        if kind not in KINDS:
            close = difflib.get_close_matches(kind.upper(), list(KINDS), n=1, cutoff=0.5)
            fix = f"Did you mean {close[0]}?" if close else "docs/privacy.md says what each finds"
            raise BadConfiguration(f"privacy.scrub: unknown kind {kind!r}", f"known kinds are {', '.join(KINDS)}", fix)
    return _scrubber(tuple(sorted(set(privacy.scrub)))) if privacy.scrub else None


@cache
def _scrubber(kinds: tuple[str, ...]) -> Scrubber:
    return Scrubber(kinds)


@dataclass(frozen=True, slots=True)
class _Finding:
    start: int
    end: int
    score: float
    kind: str


@dataclass(slots=True)
class _Window:
    """A part of a text around hits of a trigger; what is found in it counts where it touches one of them."""

    start: int
    end: int
    hits: list[tuple[int, int]]


class Scrubber:
    """Replaces values of some kinds of personal data; the same text always comes out the same.

    :param kinds: names of :data:`include.privacy.kinds.KINDS`.
    """

    def __init__(self, kinds: Sequence[str]) -> None:
        self.kinds = tuple(kinds)
        self._recognisers: dict[str, list[Any]] = {}

    @property
    def fingerprint(self) -> str:
        """Changes when the same text may come out otherwise: with the kinds, the libraries and this module."""
        parts = (str(_VERSION), *(f"{name}-{version(name)}" for name in _LIBRARIES), *self.kinds)
        return blake2b(" ".join(parts).encode(), digest_size=8).hexdigest()

    def scrub(self, text: str) -> tuple[str, dict[str, int]]:
        """The text without the values, and how many there were by kind.

        What is gone may uncover something (the second of two values that overlapped), so it is looked through until nothing
        is found: a scrubbed text stays as it is.
        """
        counts: Counter[str] = Counter()
        while findings := _without_overlaps(self._findings(text)):
            pieces, position = [], 0
            for found in findings:
                pieces += [text[position : found.start], f"<{found.kind}>"]
                position = found.end
            text = "".join([*pieces, text[position:]])
            counts.update(found.kind for found in findings)
        return text, dict(counts)

    def _findings(self, text: str) -> set[_Finding]:
        kinds = [KINDS[name] for name in self.kinds]
        text = plain(text)
        forms = {form: form(text) for form in {kind.form for kind in kinds}}
        return {found for kind in kinds for found in self._of_kind(kind, forms[kind.form])}

    def _of_kind(self, kind: Kind, text: str) -> Iterator[_Finding]:
        for window in _windows(kind, text):
            if kind.name not in self._recognisers:
                self._recognisers[kind.name] = build(kind.recognisers)
            part = text[window.start : window.end]
            for recogniser in self._recognisers[kind.name]:
                for result in recogniser.analyze(part, [kind.name]):
                    start, end = window.start + result.start, window.start + result.end
                    touches = any(start < hit_end and hit_start < end for hit_start, hit_end in window.hits)
                    if result.score >= kind.least and touches and kind.accept(text, start, end):
                        yield _Finding(start, end, result.score, kind.name)


def _windows(kind: Kind, text: str) -> Iterator[_Window]:
    """The lines around the trigger's hits, or as much of a long line as a value could reach."""
    window: _Window | None = None
    for hit in kind.trigger.finditer(text):
        first, last = max(hit.start() - kind.margin, 0), min(hit.end() + kind.margin, len(text))
        start = text.rfind("\n", first, hit.start()) + 1 or first
        end = text.find("\n", hit.end(), last)
        end = last if end < 0 else end
        if window and start <= window.end and end - window.start <= _WINDOW:
            window.end = end
            window.hits.append(hit.span())
            continue
        if window:
            yield window
        window = _Window(start, end, [hit.span()])
    if window:
        yield window


def _without_overlaps(findings: set[_Finding]) -> list[_Finding]:
    """Of findings that overlap the surest, then the longest; in the order of the text."""
    kept: list[_Finding] = []
    chain: list[_Finding] = []  # findings each of which overlaps one before it
    reach = 0
    for found in sorted(findings, key=lambda f: (f.start, f.end, f.kind)):
        if found.start >= reach:
            kept += _best(chain)
            chain = []
        chain.append(found)
        reach = max(reach, found.end)
    return kept + _best(chain)


def _best(chain: list[_Finding]) -> list[_Finding]:
    if len(chain) < 2:
        return chain
    best: list[_Finding] = []
    for found in sorted(chain, key=lambda f: (-f.score, f.start - f.end, f.start, f.kind)):
        if all(found.end <= other.start or other.end <= found.start for other in best):
            best.append(found)
    return sorted(best, key=lambda f: f.start)

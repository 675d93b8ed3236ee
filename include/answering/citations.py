"""The numbers in square brackets: kept when they name a passage that was given, taken out when they do not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

# Code is left alone: a[1] in it is no citation.
_TOKEN = re.compile(r"(?P<code>```.*?```|`[^`\n]*`)|\s*\[(?P<numbers>\d{1,4}(?:\s*[,;]\s*\d{1,4})*)\](?!\()", re.DOTALL)
_RUN = re.compile(
    r"(?P<code>```.*?```|`[^`\n]*`)|\s*(?P<run>(?:\[\d{1,4}(?:\s*[,;]\s*\d{1,4})*\](?!\())+)", re.DOTALL
)  # several of them in a row are one
_NUMBERS = re.compile(r"\[(\d{1,4})\]")
_UNFINISHED = re.compile(r"(?:\s*\[[\d,;\s]*|\s*\[[\d,;\s]+\]|\s+)$")


def clean(text: str, known: int, unknown: set[int]) -> str:
    """The text with ``[1][2]`` for ``[1, 2]``, without numbers beyond ``known``; these are added to ``unknown``."""

    def kept(match: re.Match[str]) -> str:
        if match["numbers"] is None:
            return match[0]
        asked = [int(n) for n in re.findall(r"\d+", match["numbers"])]
        unknown.update(n for n in asked if not 1 <= n <= known)
        right = list(dict.fromkeys(n for n in asked if 1 <= n <= known))
        space = match[0][: len(match[0]) - len(match[0].lstrip())]
        return space + "".join(f"[{n}]" for n in right) if right else ""

    return _TOKEN.sub(kept, text)


def clean_stream(pieces: Iterable[str], known: int, unknown: set[int]) -> Iterator[str]:
    """As :func:`clean`, piece by piece: what might become a citation waits for the rest of it."""
    waiting = ""
    for piece in pieces:
        waiting += piece
        ready = _ready(waiting)
        if ready:
            yield from filter(None, (clean(waiting[:ready], known, unknown),))
            waiting = waiting[ready:]
    yield from filter(None, (clean(waiting, known, unknown),))


def numbers(text: str) -> list[int]:
    """The citations of a sentence in order, each once."""
    return list(dict.fromkeys(int(n) for n in _NUMBERS.findall(_without_code(text))))


def renumbered(text: str, numbers: Mapping[int, int]) -> str:
    """The text with other numbers in its citations, without those that have none."""

    def kept(match: re.Match[str]) -> str:
        if match["run"] is None:
            return match[0]
        right = [numbers[n] for n in map(int, re.findall(r"\d+", match["run"])) if n in numbers]
        space = match[0][: len(match[0]) - len(match[0].lstrip())]
        return space + "".join(f"[{n}]" for n in dict.fromkeys(right)) if right else ""

    return _RUN.sub(kept, text)


def without(text: str) -> str:
    """The text without its citations."""
    return _TOKEN.sub(lambda match: match[0] if match["numbers"] is None else "", text).strip()


def _without_code(text: str) -> str:
    return _TOKEN.sub(lambda match: "" if match["numbers"] is None else match[0], text)


def _ready(text: str) -> int:
    """How many characters may be cleaned now: up to an open code span or what may be the beginning of a citation."""
    end, position = len(text), 0
    while (tick := text.find("`", position)) >= 0:
        code, rest = _TOKEN.match(text, tick), text[tick:]
        if _may_go_on(rest, code[0] if code else ""):
            end = tick
            break
        position = code.end() if code else tick + 1
    unfinished = _UNFINISHED.search(text, 0, end)
    return unfinished.start() if unfinished else end


def _may_go_on(rest: str, code: str) -> bool:
    """Whether what starts with a backtick is not known yet to be code, or not."""
    if rest.startswith("```"):
        return code in ("", "``")
    if rest == code == "``":
        return True  # a fence, perhaps
    return not code and "\n" not in rest

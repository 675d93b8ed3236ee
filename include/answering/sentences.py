"""Where the sentences of a passage stand: what is quoted, and what an answer's claims are compared with."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import NamedTuple

LONGEST = 400  # characters: a longer piece is code or a table without sentences and is cut at its line ends

_BLANK = re.compile(r"\n[^\S\n]*\n\s*")
# A line of its own: a heading, an item, a row of a table, a quotation; and whatever follows a heading or a row.
_LINE = re.compile(r"\n\s*(?=[-*+•#|>]|\d+[.)]\s|```)|(?<=\|)\n|^(?=#)(?:[^\n]*)\n", re.MULTILINE)
_END = re.compile(r"(?:[.!?…]+[\"'”’»)\]]*(?:\s*\[\d[\d,; ]*\])*\s+(?!\[\d)(?=[\"'“‘«(\[]*[^\W_a-z])|[。！？]+[”’」』）]*\s*)")
_ABBREVIATION = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|vs|cf|ca|No|Nr|Fig|Eq|approx|bzw|etc|e\.g|i\.e|z\.B|d\.h)|\b[A-Z])\.\s+$"
)


class Span(NamedTuple):
    """A piece of a text, by characters."""

    start: int
    end: int


def sentences(text: str) -> list[Span]:
    """The sentences of a text in order, without the white space around them; nothing that has letters or digits is left out."""
    spans: list[Span] = []
    for block in _pieces(text, Span(0, len(text)), _BLANK):
        for line in _pieces(text, block, _LINE):
            for span in _pieces(text, line, _END):
                spans += _bounded(text, span)
    return [span for span in spans if any(c.isalnum() for c in text[span.start : span.end])]


def _pieces(text: str, within: Span, separator: re.Pattern[str]) -> list[Span]:
    cuts = [within.start]
    for match in separator.finditer(text, within.start, within.end):
        if separator is not _END or not _ABBREVIATION.search(text, cuts[-1], match.end()):
            cuts.append(match.end())
    spans = zip(cuts, [*cuts[1:], within.end], strict=True)
    return [trimmed for start, end in spans if (trimmed := _trim(text, start, end)).end > trimmed.start]


def _bounded(text: str, span: Span) -> list[Span]:
    if span.end - span.start <= LONGEST:
        return [span]
    cuts = [span.start, *(m.end() for m in re.compile(r"\n").finditer(text, span.start, span.end)), span.end]
    return [_trim(text, a, b) for a, b in pairwise(cuts) if text[a:b].strip()]


def _trim(text: str, start: int, end: int) -> Span:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return Span(start, end)

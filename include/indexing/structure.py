"""Where a document may be cut, and how strong each place is: the chunker decides by this and by local content alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markdown_it import MarkdownIt
    from markdown_it.token import Token


class Level(IntEnum):
    """Strength of a cut, weakest first; nested blocks lie between ``LEAD_IN`` and ``BLOCK``, headings above ``RULE``."""

    GLUE = 0  # between a heading and what it introduces
    TOKEN = 1
    WORD = 2
    LINE = 3  # line break inside a sentence
    SENTENCE = 4
    ROW = 5  # line of code or of a table
    GAP = 6  # blank line inside code
    LEAD_IN = 7  # after a block that ends with a colon
    BLOCK = 30
    RULE = 31
    HEADING = 38  # minus the heading's depth, 1 to 6


class Cut(NamedTuple):
    """A block starts at ``start``: ``level`` is the strength of the cut before it, ``by_line`` how to cut inside."""

    start: int
    level: int
    by_line: bool = False
    is_heading: bool = False


class Heading(NamedTuple):
    """A heading of the outline: character position, depth 1 to 6, raw text."""

    start: int
    depth: int
    title: str


@dataclass(frozen=True, slots=True)
class Outline:
    """The blocks of a document in order (they tile it) and its headings."""

    cuts: list[Cut]
    headings: list[Heading]


# A line ends with \n, \r\n or \r. Atomic: "\r\n" must never be read as two ends, which would be a blank line.
_LINE_END = re.compile(r"\r\n?|\n")
_PARAGRAPH = re.compile(r"(?>\r\n?|\n)(?:[^\S\r\n]*+(?>\r\n?|\n))+")
_FRONT_MATTER = re.compile(r"---[ \t]*+(?>\r\n?|\n)(?=[\w\"'-]+[ \t]*+:)(?:[^\r\n]++(?>\r\n?|\n))*?---[ \t]*+(?>\r\n?|\n|\Z)")
_FINE = re.compile(
    r"(?P<sentence>(?:[.!?…][\"'”’)\]*_]*+\s++|[。！？]++[”’」』）]*+\s*+)(?=\S))"
    r"|(?P<line>(?>\r\n?|\n)\s*+(?=\S))"
)
_ROW = re.compile(r"(?>\r\n?|\n)(?P<gap>(?:[^\S\r\n]*+(?>\r\n?|\n))+)?(?=[^\r\n])")


@cache
def _parser() -> MarkdownIt:
    """Block rules only; definitions of links stay in the text as the lines they are."""
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable("table").disable(["inline", "reference"])


def plain_outline(text: str) -> Outline:
    """Paragraphs, separated by blank lines."""
    starts = [0, *(m.end() for m in _PARAGRAPH.finditer(text))]
    return Outline([Cut(s, Level.BLOCK) for s in starts], [])


def markdown_outline(text: str) -> Outline:
    """Blocks and headings as CommonMark plus tables reads them, https://spec.commonmark.org/0.31.2/."""
    lines = [0, *(m.end() for m in _LINE_END.finditer(text))]
    body, skipped = _without_front_matter(text)
    blocks: dict[int, Cut] = {0: Cut(0, Level.BLOCK, by_line=True)}
    headings: list[Heading] = []
    tokens = _parser().parse(body)
    for index, token in enumerate(tokens):
        if token.map is None or token.nesting < 0 or token.type in _INNER:
            continue
        line = token.map[0] + skipped
        if line >= len(lines):  # an empty last item
            continue
        start = lines[line]
        if token.type == "heading_open" and token.level == 0:
            headings.append(Heading(start, int(token.tag[1]), " ".join(tokens[index + 1].content.split())))
        known = blocks.get(start)
        level = max(_level(token), known.level if known and start else 0)
        by_line = token.type in _BY_LINE or (known is not None and known.by_line and start > 0)
        blocks[start] = Cut(start, level, by_line, token.type == "heading_open" and token.level == 0)
    return Outline([blocks[s] for s in sorted(blocks)], headings)


_INNER = frozenset({"inline", "thead_open", "tbody_open", "tr_open", "th_open", "td_open"})
_BY_LINE = frozenset({"fence", "code_block", "table_open", "html_block"})


def _level(token: Token) -> int:
    if token.level:
        return max(Level.BLOCK - token.level, Level.LEAD_IN + 1)
    if token.type == "heading_open":
        return Level.HEADING - int(token.tag[1])
    return Level.RULE if token.type == "hr" else Level.BLOCK


def _without_front_matter(text: str) -> tuple[str, int]:
    """A YAML header would read as a rule and a heading; returns the text after it and the number of its lines."""
    match = _FRONT_MATTER.match(text)
    if match is None:
        return text, 0
    return text[match.end() :], len(_LINE_END.findall(match.group()))


def fine_cuts(text: str, start: int, end: int, *, by_line: bool) -> Iterator[Cut]:
    """Places inside one block: lines of code and tables, else sentences and lines."""
    if by_line:
        for match in _ROW.finditer(text, start, end):
            yield Cut(match.end(), Level.GAP if match["gap"] else Level.ROW)
        return
    for match in _FINE.finditer(text, start, end):
        yield Cut(match.end(), Level.SENTENCE if match["sentence"] else Level.LINE)

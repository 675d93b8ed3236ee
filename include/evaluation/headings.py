"""The sanity set of a collection that has no golden queries: headings as questions, the text under them as the answer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from include.indexing.structure import fine_cuts, markdown_outline, plain_outline
from include.store.golden import GoldenQuery, GoldenSpan

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LONGEST = 300  # characters of a query
_MARKS = re.compile(r"[#*`=\[\]|~]+|\B[-_]+|[-_]+\B")
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]|\w+")  # scripts without spaces: a character each


class Candidate(NamedTuple):
    """A possible question: ``start`` to ``end`` is the text that it introduces."""

    query: str
    depth: int
    start: int
    end: int


def sanity_queries(documents: Iterable[tuple[str, str]]) -> list[GoldenQuery]:
    """One query a document: its deepest heading of two words or more that no other document has, else its first sentence.

    The heading's own line is no answer: an index of bare headings would else be the best of all.

    :param documents: (uri, text).
    """
    by_document = {uri: _candidates(text) for uri, text in documents}
    owners: dict[str, set[str]] = {}
    for uri, candidates in by_document.items():
        for candidate in candidates:
            owners.setdefault(candidate.query.casefold(), set()).add(uri)
    queries = []
    for uri, candidates in by_document.items():
        own = [c for c in candidates if len(owners[c.query.casefold()]) == 1]
        if own:
            best = max(own, key=lambda c: (c.depth, _words(c.query), -c.start))
            queries.append(GoldenQuery(best.query, (GoldenSpan(uri, best.start, best.end),)))
    return queries


def _candidates(text: str) -> list[Candidate]:
    found = [*_sections(text), *_first_sentence(text)]
    return [c for c in found if _words(c.query) >= 2 and len(c.query) <= LONGEST and text[c.start : c.end].strip()]


def _sections(text: str) -> Iterator[Candidate]:
    """Headings, each with the text up to the next heading that is not below it."""
    headings = markdown_outline(text).headings
    for index, heading in enumerate(headings):
        line_end = text.find("\n", heading.start)
        start = len(text) if line_end < 0 else line_end + 1
        end = next((h.start for h in headings[index + 1 :] if h.depth <= heading.depth), len(text))
        yield Candidate(_plain(heading.title), heading.depth, *_stripped(text, start, end))


def _first_sentence(text: str) -> Iterator[Candidate]:
    """The first sentence or line with the text after it: a title that is no heading, or how a plain text begins."""
    first = _ends(text)
    start, end = _stripped(text, first, len(text))
    yield Candidate(_plain(text[:first]), 0, start, end)


def _ends(text: str) -> int:
    start = len(text) - len(text.lstrip())
    blocks = [cut.start for cut in plain_outline(text).cuts if cut.start > start]
    block = blocks[0] if blocks else len(text)
    return next((cut.start for cut in fine_cuts(text, start, block, by_line=False) if cut.start > start), block)


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    """Without blank space around; the same place twice when nothing else is there."""
    body = text[start:end].strip()
    if not body:
        return start, start
    first = start + text[start:end].index(body)
    return first, first + len(body)


def _words(query: str) -> int:
    return len(_WORD.findall(query))


def _plain(text: str) -> str:
    return " ".join(_MARKS.sub(" ", text).split())

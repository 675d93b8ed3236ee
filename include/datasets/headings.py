"""Questions without an LLM: a heading asks for what stands below it, a sentence for the passage that it was taken out of.

What asks is no part of what answers: a model would else learn to find strings. For sentences that is the inverse cloze task of
Lee, Chang and Toutanova, "Latent retrieval for weakly supervised open domain question answering" (2019, arXiv 1906.00300). Such
questions are poorer than those that people or an LLM ask, and their origin says so.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from include.answering.sentences import sentences
from include.datasets.filters import MIN_WORDS
from include.datasets.questions import Question, drawn
from include.store.answering_passages import Passage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MIN_ANSWER = 80  # characters that must be left to answer
MIN_SENTENCES = 3
LONGEST = 300  # characters of a sentence that asks

_HEADINGS = re.compile(r"(?:\s*#{1,6}[^\S\n]+[^\n]+(?:\n+|\Z))+")
_TITLE = re.compile(r"#{1,6}[^\S\n]+([^\n]+)")
_MARKS = re.compile(r"[#*`=\[\]|~]+|\B[-_]+|[-_]+\B")


def ask_headings(passages: Iterable[Passage], seed: int) -> Iterator[Question]:
    """At most one question a passage, in the order of the passages."""
    for passage in passages:
        question = _of_heading(passage) or _of_sentence(passage, seed)
        if question is not None:
            yield question


def _of_heading(passage: Passage) -> Question | None:
    """The last of the headings that the passage begins with; one of a single word with the heading above it."""
    begin = _HEADINGS.match(passage.text)
    if begin is None:
        return None
    *above, title = [_plain(heading) for heading in (*passage.headings[:-1], *_TITLE.findall(begin[0]))]
    if len(title.split()) < MIN_WORDS and above:
        title = f"{above[-1]} {title}"
    if len(title.split()) < MIN_WORDS:
        return None
    return _question(title, "heading", passage, begin.end(), len(passage.text))


def _of_sentence(passage: Passage, seed: int) -> Question | None:
    """The first or the last sentence, as drawn; what answers is the rest, in one piece."""
    spans = sentences(passage.text)
    if len(spans) < MIN_SENTENCES:
        return None
    first = drawn(seed, passage.document, passage.start)[0] % 2 == 0
    taken = spans[0] if first else spans[-1]
    start, end = (spans[1].start, len(passage.text)) if first else (0, spans[-2].end)
    return _question(_plain(passage.text[taken.start : taken.end]), "sentence", passage, start, end)


def _question(query: str, style: str, passage: Passage, start: int, end: int) -> Question | None:
    """The question with the part of the passage from ``start`` to ``end``, without white space around."""
    text = passage.text[start:end]
    body = text.strip()
    if len(body) < MIN_ANSWER or len(query) > LONGEST:
        return None
    begin = (passage.start or 0) + start + text.index(body)
    answer = Passage(passage.document, begin, begin + len(body), body, passage.headings)
    return Question(query, passage.document, answer.start, answer.end, answer, origin="headings", style=style)


def _plain(text: str) -> str:
    return " ".join(_MARKS.sub(" ", text).split())

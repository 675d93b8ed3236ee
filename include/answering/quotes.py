"""From numbers in an answer to citations: the sentence of the passage that bears out what was said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.answering.sentences import Span, sentences
from include.answering.words import words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.guardrails.groundedness import Claim
    from include.store.search import Hit


@dataclass(frozen=True, slots=True)
class Citation:
    """Where something stands that the answer says.

    :param number: of the passage, from 1.
    :param start: of the quote, in characters of the document's text.
    :param quote: the sentence that bears it out most.
    """

    number: int
    document: str
    start: int
    end: int
    quote: str


def cite(claims: Sequence[Claim], sources: Sequence[Hit], language: str | None) -> tuple[Citation, ...]:
    """One citation for each passage and sentence of it that a claim rests on, in the order of the answer."""
    found: dict[tuple[int, int], Citation] = {}
    for claim in claims:
        for number in claim.cited:
            if 1 <= number <= len(sources):
                citation = _quoted(number, sources[number - 1], claim.text, language)
                found.setdefault((number, citation.start), citation)
    return tuple(found.values())


def _quoted(number: int, hit: Hit, claim: str, language: str | None) -> Citation:
    said = set(words(claim, language))

    def shared(span: Span) -> tuple[float, float]:
        held = set(words(hit.text[span.start : span.end], language))
        common = len(said & held)
        return common, common / max(len(held), 1)

    start, end = max(sentences(hit.text) or [Span(0, len(hit.text))], key=shared)
    return Citation(number, hit.document, hit.start + start, hit.start + end, hit.text[start:end])

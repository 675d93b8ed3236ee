"""Token counts of any span of a document from one pass of the embedder's tokenizer."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from include.errors import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tokenizers import Encoding, Tokenizer

_WINDOW = 16_384  # characters encoded at once: a third faster than a whole book, and the memory stays flat
_TOGETHER = 256_000  # characters of several texts encoded together: their encodings are held at a time
_LONG_TOKEN = 64  # a longer token is an unknown word, a blob, that may be cut anywhere
_BLOB_STEP = 4  # characters that count as one token inside it, as in English text
_BREAK = re.compile(r".*\s(?=\S)", re.DOTALL)


class Span(NamedTuple):
    """Characters ``start`` to ``end``, without outer white space, and their number of tokens."""

    start: int
    end: int
    tokens: int


class Measure:
    """Counts the tokens of spans of ``text``.

    :param tokenizer: with truncation and padding off.
    :param encodings: of the text's windows, when they were made together with others' (:func:`measures`).
    :raises Terminal: it truncates or pads, so that it cannot count.
    """

    def __init__(self, text: str, tokenizer: Tokenizer, encodings: Sequence[Encoding] | None = None) -> None:
        self._text, self._tokenizer = text, tokenizer
        self._additive = _is_additive(tokenizer)
        self._starts: list[int] = []
        self._blobs: list[int] = []  # starts of long tokens: their neighbourhood is counted again
        windows = list(_windows(text))
        if encodings is None:
            encodings = _encode(tokenizer, [text[begin:end] for begin, end in windows])
        for (begin, _), encoding in zip(windows, encodings, strict=True):
            self._collect(begin, encoding.offsets)
        self.total = len(self._starts)

    def _collect(self, base: int, offsets: list[tuple[int, int]]) -> None:
        if all(end - start <= _LONG_TOKEN for start, end in offsets):
            self._starts += [base + start for start, _ in offsets]
            return
        for start, end in offsets:
            if end - start <= _LONG_TOKEN:
                self._starts.append(base + start)
            else:
                self._blobs.append(base + start)
                self._starts += range(base + start, base + end, _BLOB_STEP)

    def count(self, start: int, end: int) -> int:
        """Tokens that begin in ``[start, end)``."""
        return bisect_left(self._starts, end) - bisect_left(self._starts, start)

    def indexes(self, positions: Iterable[int]) -> Iterator[int]:
        """For each character position the number of tokens before it."""
        return (bisect_left(self._starts, p) for p in positions)

    def token_starts(self, start: int, end: int) -> list[int]:
        """Distinct positions in ``[start, end)`` where a token begins."""
        found = self._starts[bisect_left(self._starts, start) : bisect_left(self._starts, end)]
        return list(dict.fromkeys(found))

    def fitted(self, start: int, end: int, limit: int) -> Iterator[Span]:
        """The span, trimmed and counted exactly; halved as often as needed when it counts more alone than in place."""
        pending = [(start, end)]
        while pending:
            begin, stop = pending.pop()
            span = self._exact(begin, stop)
            if span.start == span.end:
                continue
            if span.tokens <= limit or span.end - span.start == 1:
                yield span
                continue
            middle = self._middle(span)
            pending += [(middle, span.end), (span.start, middle)]

    def extended(self, span: Span, after: int, overlap: int, limit: int) -> Span:
        """``span`` begun up to ``overlap`` tokens earlier, at a word, behind ``after``, the start of the one before."""
        here = bisect_left(self._starts, span.start)
        for position in self._starts[max(here - overlap, bisect_right(self._starts, after)) : here]:
            if after >= 0 and _at_word(self._text, position):
                longer = self._exact(position, span.end)
                return longer if longer.tokens <= limit else span
        return span

    def _exact(self, begin: int, stop: int) -> Span:
        piece = self._text[begin:stop]
        start = begin + len(piece) - len(piece.lstrip())
        end = begin + len(piece.rstrip())
        if end <= start:
            return Span(begin, begin, 0)
        if self._additive and self._clean(start) and self._clean(end) and not self._has_blob(start, end):
            return Span(start, end, self.count(start, end))
        return Span(start, end, len(self._tokenizer.encode(self._text[start:end], add_special_tokens=False).ids))

    def _clean(self, position: int) -> bool:
        """Nothing that the tokenizer reads as one word is cut here."""
        text = self._text
        return position in (0, len(text)) or _separates(text[position - 1]) or _separates(text[position])

    def _has_blob(self, start: int, end: int) -> bool:
        index = bisect_left(self._blobs, start)
        return index < len(self._blobs) and self._blobs[index] < end

    def _middle(self, span: Span) -> int:
        """A place to cut near the middle: between words, else tokens, else characters."""
        inner = self.token_starts(span.start + 1, span.end)
        words = [p for p in inner if self._text[p - 1].isspace()]
        places = words or inner or [(span.start + span.end) // 2]
        return places[len(places) // 2]


def measures(texts: Sequence[str], tokenizer: Tokenizer) -> Iterator[Measure]:
    """One for each text; the tokenizer reads many windows at once, on all cores."""
    first = 0
    while first < len(texts):
        size, last = 0, first
        while last < len(texts) and (size == 0 or size + len(texts[last]) <= _TOGETHER):
            size += len(texts[last])
            last += 1
        group = texts[first:last]
        parts = [[text[begin:end] for begin, end in _windows(text)] for text in group]
        encodings = iter(_encode(tokenizer, [part for own in parts for part in own]))
        for text, own in zip(group, parts, strict=True):
            yield Measure(text, tokenizer, list(islice(encodings, len(own))))
        first = last


def _encode(tokenizer: Tokenizer, parts: list[str]) -> list[Encoding]:
    if tokenizer.truncation is not None or tokenizer.padding is not None:
        raise Terminal("the tokenizer cannot count tokens", "it truncates or pads", "Call no_truncation() and no_padding()")
    return list(tokenizer.encode_batch(parts, add_special_tokens=False)) if parts else []


def _separates(char: str) -> bool:
    """White space to the tokenizer as well: BERT's drops control characters before it looks for spaces."""
    return char in " \t\n\r" or (char > "\x85" and char.isspace())


def _at_word(text: str, position: int) -> bool:
    """Scripts without spaces (from U+2E80 on) have a word at every character."""
    before, here = text[position - 1], text[position]
    return before.isspace() or before >= "\u2e80" or here >= "\u2e80"


def _is_additive(tokenizer: Tokenizer) -> bool:
    """BERT's tokenizer splits at white space first: parts cut there count the same as the whole. Others may not."""
    from tokenizers.models import WordPiece
    from tokenizers.pre_tokenizers import BertPreTokenizer

    return isinstance(tokenizer.model, WordPiece) and isinstance(tokenizer.pre_tokenizer, BertPreTokenizer)


def _windows(text: str) -> Iterator[tuple[int, int]]:
    """Parts of about ``_WINDOW`` characters, cut at white space where there is any."""
    start = 0
    while start < len(text):
        end = min(start + _WINDOW, len(text))
        if end < len(text):
            found = _BREAK.match(text, start + _WINDOW // 2, end)
            end = found.end() if found else end
        yield start, end
        start = end

"""Cut a document into chunks that stay the same when the document is edited elsewhere.

Weak cuts are healed first: neighbouring pieces grow together, weakest cut first, while their sum fits. A cut's strength
is its structural level, then a hash of the text beside it, so an edit is felt only as far as a chain of ever stronger
cuts reaches, a chunk or two; packing from the top would shift everything after it. Reasons and figures:
docs/decisions/0002-chunking.md.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING

from include.indexing.measure import Measure, measures
from include.indexing.structure import Cut, Heading, Level, Outline, fine_cuts, markdown_outline, plain_outline

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tokenizers import Tokenizer

    from include.collection_file import Chunking
    from include.sources.source import Json

CHUNKER_VERSION = "1"  # part of a generation's spec: raise it whenever boundaries change

_CONTEXT = 48  # characters that a cut's hash reads: short, so that an edit further on does not move the cut


@dataclass(frozen=True, slots=True)
class Chunk:
    """A span of a document: ``document[start:end] == text``.

    :param tokens: length of ``text`` for the embedder's tokenizer, without special tokens.
    :param metadata: ``headings``: titles from the outermost to the one in force where the chunk starts.
    """

    ordinal: int
    start: int
    end: int
    text: str
    tokens: int
    metadata: dict[str, Json] = field(default_factory=dict)


def chunk_document(text: str, tokenizer: Tokenizer, settings: Chunking) -> list[Chunk]:
    """Cut ``text`` along its structure into chunks of at most ``settings.max_tokens``.

    :param text: the document; offsets are those of Python strings.
    :param tokenizer: the embedder's, with truncation and padding off.
    :raises Terminal: the tokenizer truncates or pads, so that it cannot count.
    """
    return _chunks(text, Measure(text, tokenizer), settings)


def chunk_documents(texts: Sequence[str], tokenizer: Tokenizer, settings: Chunking) -> Iterator[list[Chunk]]:
    """As :func:`chunk_document`, of many texts: quicker where there are several cores."""
    for text, measure in zip(texts, measures(texts, tokenizer), strict=True):
        yield _chunks(text, measure, settings)


def _chunks(text: str, measure: Measure, settings: Chunking) -> list[Chunk]:
    outline = markdown_outline(text) if settings.markdown else plain_outline(text)
    limit = settings.max_tokens - settings.overlap
    packed = _pack(text, measure, _atoms(text, measure, outline.cuts, limit), limit)
    spans = [exact for start, end in packed for exact in measure.fitted(start, end, limit)]
    starts = [start for start, _, _ in spans]
    if settings.overlap:
        spans = [
            measure.extended(span, after, settings.overlap, settings.max_tokens)
            for span, after in zip(spans, [-1, *starts], strict=False)
        ]
    return [
        Chunk(n, start, end, text[start:end], tokens, path)
        for n, ((start, end, tokens), path) in enumerate(zip(spans, _paths(outline, starts), strict=True))
    ]


def _atoms(text: str, measure: Measure, blocks: Sequence[Cut], limit: int) -> list[Cut]:
    """The pieces that are never cut: blocks that fit, else their lines and sentences, else words, else tokens."""
    atoms: list[Cut] = []
    lead, previous = 0, None  # tokens of the headings that the next block must share a chunk with
    for block, end in zip(blocks, [*(b.start for b in blocks[1:]), len(text)], strict=True):
        level = _level(text, block, previous)
        lead = lead if level == Level.GLUE and lead < limit // 2 else 0
        size = measure.count(block.start, end)
        if size + lead <= limit:
            atoms.append(block._replace(level=level))
        else:
            atoms += _broken(text, measure, block._replace(level=level), end, limit - lead)
        lead = lead + size if block.is_heading else 0
        previous = block
    return atoms


def _level(text: str, block: Cut, previous: Cut | None) -> int:
    """A heading stays with what it introduces, a line that ends with a colon rather stays."""
    if previous is None:
        return block.level
    if previous.is_heading and (not block.is_heading or block.level < previous.level):
        return Level.GLUE
    introduced = not block.is_heading and text[previous.start : block.start].rstrip().endswith(":")
    return Level.LEAD_IN if introduced else block.level


def _broken(text: str, measure: Measure, block: Cut, end: int, limit: int) -> Iterator[Cut]:
    cuts = [block, *fine_cuts(text, block.start, end, by_line=block.by_line)]
    for cut, stop in zip(cuts, [*(c.start for c in cuts[1:]), end], strict=True):
        yield cut
        if measure.count(cut.start, stop) > limit:
            yield from _words(text, measure, cut.start, stop, limit)


def _words(text: str, measure: Measure, start: int, end: int, limit: int) -> Iterator[Cut]:
    inner = measure.token_starts(start + 1, end)
    words = [p for p in inner if text[p - 1].isspace()]
    for word, stop in zip([start, *words], [*words, end], strict=True):
        if word != start:
            yield Cut(word, Level.WORD)
        if measure.count(word, stop) > limit:
            yield from (Cut(p, Level.TOKEN) for p in measure.token_starts(word + 1, stop))


def _pack(text: str, measure: Measure, atoms: Sequence[Cut], limit: int) -> list[tuple[int, int]]:
    """Heal cuts from the weakest to the strongest where the pieces on both sides fit in ``limit`` together."""
    ends = [*(a.start for a in atoms[1:]), len(text)]
    offset = [*measure.indexes(a.start for a in atoms), measure.total]
    first = list(range(len(atoms)))  # of a piece's last atom: its first
    last = list(range(len(atoms)))  # of a piece's first atom: its last
    for right in _weakest_first(text, atoms, ends):
        begin, stop = first[right - 1], last[right]
        if offset[stop + 1] - offset[begin] <= limit:
            first[stop], last[begin] = begin, stop
    spans, index = [], 0
    while index < len(atoms):
        spans.append((atoms[index].start, ends[last[index]]))
        index = last[index] + 1
    return spans


def _weakest_first(text: str, atoms: Sequence[Cut], ends: Sequence[int]) -> list[int]:
    """Indexes of all atoms but the first, by the strength of the cut before them: level, then hashes of the text there.

    Repeated text gives equal hashes: then the whole neighbouring atoms decide, and between true copies the order.
    """
    keys: list[tuple[int | bytes, ...]] = [(0, b"")]
    for atom, end in zip(atoms[1:], ends[1:], strict=True):
        if atom.level in (Level.TOKEN, Level.WORD):
            near = text[max(0, atom.start - _CONTEXT // 2) : atom.start + _CONTEXT // 2]
        else:
            near = text[atom.start : min(end, atom.start + _CONTEXT)]
        keys.append((atom.level, _digest(near)))
    repeated = Counter(keys)
    for i in range(1, len(keys)):
        if repeated[keys[i]] > 1:
            around = text[atoms[i].start : ends[i]], text[atoms[i - 1].start : ends[i - 1]]
            keys[i] = (*keys[i], *map(_digest, around))
    return sorted(range(1, len(atoms)), key=keys.__getitem__)


def _digest(text: str) -> bytes:
    return blake2b(text.strip().encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _paths(outline: Outline, starts: Sequence[int]) -> Iterator[dict[str, Json]]:
    """The headings in force at each of ``starts``."""
    stack: list[Heading] = []
    headings = iter(outline.headings)
    coming = next(headings, None)
    for start in starts:
        while coming is not None and coming.start <= start:
            stack = [*(h for h in stack if h.depth < coming.depth), coming]
            coming = next(headings, None)
        yield {"headings": [h.title for h in stack]} if stack else {}

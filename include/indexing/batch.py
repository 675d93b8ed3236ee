"""A batch of documents on its way to the index: its chunks, whether they may go live, and the rows they become."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from include.quality.suites import chunk_rules
from include.quality.validate import Failure, validate
from include.store.chunks import ChunkRow
from include.store.quarantine import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from numpy.typing import NDArray

    from include.indexing.chunking import Chunk
    from include.lexical.bm25 import BM25
    from include.store.work_items import WorkItem

    Vectors = Mapping[UUID, NDArray[np.float32]]  # by text hash, shape (dimension,)

EMBEDDABLE = "embeddable"  # under this a document is quarantined of which the model takes not a text


@dataclass(frozen=True, slots=True)
class Prepared:
    """A document with its chunks and their text hashes."""

    item: WorkItem
    text: str
    chunks: Sequence[Chunk]
    hashes: Sequence[UUID]


@dataclass(frozen=True, slots=True)
class ChunkVerdict:
    """What the chunk suite found.

    :param failures: by document id, the first rule that one of its chunks broke.
    :param result: what is stored as the validation report.
    :param evaluated: chunks checked.
    """

    failures: Mapping[int, Failure]
    result: Mapping[str, Any]
    evaluated: int


def validate_chunks(
    prepared: Sequence[Prepared],
    vectors: Vectors,
    *,
    max_tokens: int,
    dimension: int,
    refused: Mapping[UUID, str] | None = None,
) -> ChunkVerdict:
    """Check every chunk of the batch with its vector; one bad chunk refuses its whole document.

    :param refused: texts that the model would not embed, by hash, and why; their documents are refused unchecked.
    """
    unembedded = _unembedded(prepared, refused or {})
    prepared = [p for p in prepared if p.item.document_id not in unembedded]
    if not prepared:
        return ChunkVerdict(unembedded, {"suite": "chunks", "expectations": []}, 0)
    pieces = [(p, c, vectors[h]) for p in prepared for c, h in zip(p.chunks, p.hashes, strict=True)]
    finite = [bool(np.isfinite(v).all()) for _, _, v in pieces]
    columns: dict[str, Sequence[Any]] = {
        "tokens": [c.tokens for _, c, _ in pieces],
        "start": [c.start for _, c, _ in pieces],
        "end": [c.end for _, c, _ in pieces],
        "document_length": [len(p.text) for p, _, _ in pieces],
        "exact": [p.text[c.start : c.end] == c.text for p, c, _ in pieces],
        "text": [c.text for _, c, _ in pieces],
        "dimension": [len(v) for _, _, v in pieces],
        "finite": finite,
        # A NaN would count as missing, and missing values pass: "finite" tells of them.
        "norm": [float(np.linalg.norm(v)) if ok else 1.0 for ok, (_, _, v) in zip(finite, pieces, strict=True)],
    }
    rules = chunk_rules(max_tokens=max_tokens, dimension=dimension)
    verdict = validate("chunks", rules, columns, [f"{p.item.uri}#{c.ordinal}" for p, c, _ in pieces])
    failures = unembedded
    for position, failure in sorted(verdict.failures.items()):
        failures.setdefault(pieces[position][0].item.document_id, failure)
    return ChunkVerdict(failures, verdict.result, len(pieces))


def _unembedded(prepared: Sequence[Prepared], refused: Mapping[UUID, str]) -> dict[int, Failure]:
    """Documents with a text that the model would not embed."""
    return {
        p.item.document_id: Failure(EMBEDDABLE, f"was refused by the embedding model: {refused[first]}")
        for p in prepared
        if (first := next((h for h in p.hashes if h in refused), None)) is not None
    }


def chunk_rows(prepared: Sequence[Prepared], vectors: Vectors, bm25: BM25 | None, *, packed: bool = True) -> list[ChunkRow]:
    """The rows of these documents, in order.

    :param bm25: of the generation they are for; None: it has no lexical index.
    :param packed: whether it keeps words packed.
    """

    def words(text: str) -> Mapping[int, float] | Sequence[int] | None:
        if bm25 is None:
            return None
        return bm25.packed(text) if packed else bm25.chunk(text)

    return [
        ChunkRow(p.item.document_id, c.ordinal, c.start, c.end, c.tokens, h, c.metadata, vectors[h], words(c.text))
        for p in prepared
        for c, h in zip(p.chunks, p.hashes, strict=True)
    ]


def refusals(
    prepared: Sequence[Prepared], failures: Mapping[int, Failure], object_uris: Mapping[str, str], generation_id: int
) -> list[Refusal]:
    """The quarantine rows of these refused documents.

    :param object_uris: where each was read from.
    """
    rows = []
    for document in prepared:
        uri, failure = document.item.uri, failures[document.item.document_id]
        detail = f"a chunk {failure.detail}"
        rows.append(Refusal(object_uris.get(uri, uri), uri, "", "chunk", failure.rule, detail, generation_id))
    return rows

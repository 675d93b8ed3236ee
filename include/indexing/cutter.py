"""Cuts documents once: what the plan cut to estimate a run need not be cut again by a worker in the same process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.indexing.chunking import chunk_document

if TYPE_CHECKING:
    from uuid import UUID

    from tokenizers import Tokenizer

    from include.config import Chunking
    from include.indexing.chunking import Chunk


class Cutter:
    """Remembers cut texts until they are asked for again."""

    def __init__(self) -> None:
        self._kept: dict[tuple[UUID, Chunking], list[Chunk]] = {}

    def cut(
        self, content_hash: UUID, text: str, tokenizer: Tokenizer, settings: Chunking, *, keep: bool = False
    ) -> list[Chunk]:
        """The chunks of a text.

        :param keep: hold them for the next call, which lets go of them; the caller bounds how much is held.
        """
        key = content_hash, settings
        pieces = self._kept.pop(key, None)
        if pieces is None:
            pieces = chunk_document(text, tokenizer, settings)
        if keep:
            self._kept[key] = pieces
        return pieces

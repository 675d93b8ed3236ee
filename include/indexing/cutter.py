"""Cuts documents once: what the plan cut to estimate a run need not be cut again by a worker in the same process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.indexing.chunking import chunk_documents

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from tokenizers import Tokenizer

    from include.collection_file import Chunking
    from include.indexing.chunking import Chunk


class Cutter:
    """Remembers cut texts until they are asked for again."""

    def __init__(self) -> None:
        self._kept: dict[tuple[UUID, Chunking], list[Chunk]] = {}

    def cut(
        self, texts: Mapping[UUID, str], tokenizer: Tokenizer, settings: Chunking, *, keep: bool = False
    ) -> dict[UUID, list[Chunk]]:
        """The chunks of texts, by the same hashes.

        :param keep: hold them for the next call, which lets go of them; the caller bounds how much is held.
        """
        found = {name: self._kept.pop((name, settings)) for name in texts if (name, settings) in self._kept}
        new = {name: text for name, text in texts.items() if name not in found}
        found |= zip(new, chunk_documents(list(new.values()), tokenizer, settings), strict=True)
        if keep:
            self._kept |= {(name, settings): pieces for name, pieces in found.items()}
        return found

"""Gives a signature to texts that were stored without one: the setting was off, or an older version stored them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from include.indexing.near_duplicates import signature
from include.store import documents, signatures

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from include.progress import Progress
    from include.store.pool import Connection

BATCH_TEXTS, BATCH_BYTES = 1000, 16_000_000  # what is held in memory at a time


def sign_missing(
    connection: Connection, collection: int, progress: Progress, checkpoint: Callable[[], object] = lambda: None
) -> int:
    """Sign what is not signed; an index answers "nothing" at once when everything is.

    :param checkpoint: called after each batch, to commit it.
    :return: texts signed.
    """
    total = signatures.count_unsigned(connection, collection)
    if not total:
        return 0
    progress.step("near-duplicates", total)
    signed = 0
    while waiting := signatures.unsigned(connection, collection, BATCH_TEXTS):
        batch = _first(waiting)
        texts = documents.texts(connection, collection, batch)
        signatures.save(connection, collection, {content: signature(text) for content, text in texts.items()})
        checkpoint()
        signed += len(batch)
        progress.advance(len(batch))
    return signed


def _first(waiting: Sequence[tuple[UUID, int]]) -> list[UUID]:
    """As many as may be held in memory, at least one."""
    sizes = itertools.accumulate(size for _, size in waiting)
    return [content for (content, size), total in zip(waiting, sizes, strict=True) if total <= max(BATCH_BYTES, size)]

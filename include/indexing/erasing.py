"""Erases one document for good: its rows, then the space that they took, then what runs wrote of it meanwhile."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.errors import Transient
from include.progress import Silent
from include.store import forgotten, traces
from include.store.vacuum import WAIT_SECONDS, vacuum

if TYPE_CHECKING:
    from include.progress import Progress
    from include.store.forgotten import Erased
    from include.store.pool import Connection, Pool

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Erasure:
    """What was done.

    :param known: False when nothing of the document was there; it is kept out all the same.
    :param erased: rows removed or rewritten, by table.
    :param shared_with: other documents with the same text, which therefore stays.
    :param models: models that were trained on it.
    :param not_vacuumed: tables whose freed space could not be taken back yet.
    """

    known: bool
    erased: dict[str, int]
    shared_with: list[str]
    models: list[str]
    not_vacuumed: list[str]


def erase_document(
    pool: Pool,
    collection: int,
    uri: str,
    *,
    reason: str | None = None,
    rewrite: bool = False,
    wait_seconds: float = WAIT_SECONDS,
    progress: Progress | None = None,
) -> Erasure:
    """Forget a document (:func:`include.store.forgotten.forget`) and vacuum the tables that could hold it.

    :param rewrite: write those tables anew: see :func:`include.store.vacuum.vacuum`.
    :param wait_seconds: for transactions that may still see it.
    :raises Transient: a run held the collection for too long; nothing was done.
    """
    progress = progress or Silent()
    with pool.connection() as connection:
        progress.step("erase", None)
        first = forgotten.forget(connection, collection, uri, reason=reason)
        tables = traces.tables(connection, collection)
        connection.commit()
        progress.step("vacuum", len(tables))
        left = vacuum(
            connection,
            tables,
            transaction=first.transaction,
            rewrite=rewrite,
            wait_seconds=wait_seconds,
            advance=progress.advance,
        )
        # A run may have noted its name at its end, in an error that it had found before.
        again = _again(connection, collection, uri)
        if again is not None and again.known:
            left += vacuum(
                connection, list(again.tables), transaction=again.transaction, rewrite=rewrite, wait_seconds=wait_seconds
            )
    if left:
        logger.warning("not vacuumed, because others still use them: %s", ", ".join(sorted(set(left))))
    erased = dict(Counter(first.tables) + Counter(again.tables if again else {}))
    return Erasure(first.known, erased, first.shared_with, first.models, sorted(set(left)))


def _again(connection: Connection, collection: int, uri: str) -> Erased | None:
    try:
        return forgotten.forget(connection, collection, uri)
    except Transient:
        logger.warning("a run holds the collection: forget it once more later, for what older runs may still have noted")
        return None

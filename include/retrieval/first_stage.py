"""First stage of a search: the different passages that may answer a query, with their texts."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from include.retrieval.candidates import candidates
from include.retrieval.collapse import collapse
from include.store import search, signatures

if TYPE_CHECKING:
    from include.retrieval.candidates import Asked
    from include.store.generations import Generation
    from include.store.pool import Connection
    from include.store.scope import Scope
    from include.store.search import Hit

SPARE_HITS = 10  # read beyond what is asked for, so that folded copies rarely need another look


def passages(
    connection: Connection, held: Generation, asked: Asked, scope: Scope, *, wanted: int, fold: float | None
) -> list[Hit]:
    """As many different passages as are wanted, if the scope holds so many, best first.

    :param connection: in one :func:`include.store.pool.snapshot`.
    :param fold: similarity from which passages count as the same; None: all are shown.
    """
    spare = 0 if fold is None else SPARE_HITS
    depth = max(asked.depth, wanted + spare)
    while True:
        ranked = candidates(connection, held, asked, scope, depth=depth, sure=wanted + spare)
        shown: list[Hit] = []
        for read in sorted({min(wanted + spare, len(ranked)), len(ranked)}):
            hits = search.read(connection, held, ranked[:read], scope)
            shown = hits[:wanted] if fold is None else _folded(connection, held, hits, fold, wanted)
            if len(shown) >= wanted:
                return shown
        if len(ranked) < depth:
            return shown
        depth *= 2


def _folded(connection: Connection, held: Generation, hits: list[Hit], threshold: float, wanted: int) -> list[Hit]:
    uris = list({hit.document for hit in hits})
    return collapse(hits, partial(signatures.of_documents, connection, held, uris), threshold, top_k=wanted)

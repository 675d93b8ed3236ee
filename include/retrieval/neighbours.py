"""Shows a hit with the chunks around it: what is cut small to be found well is read better with its context.

A passage widens inside its own document and version only, so whoever may see the hit may see all of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from include.store import neighbours

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from include.store.generations import Generation
    from include.store.neighbours import Stretch
    from include.store.pool import Connection
    from include.store.search import Hit


@dataclass(frozen=True, slots=True)
class Passage:
    """The best of some hits, and the chunks that are shown with it; None: the hit as it is."""

    hit: Hit
    stretch: Stretch | None


def with_neighbours(connection: Connection, held: Generation, hits: Sequence[Hit], n: int, *, top_k: int) -> list[Hit]:
    """The ``top_k`` best passages: each hit with ``n`` chunks before and after it, those that touch as one.

    ``text`` is exactly the document's from ``start`` to ``end``; ``ordinal``, ``score`` and the rest are the best hit's. A
    hit whose document was changed meanwhile, or that does not name its ``content_hash``, stays as it is.

    :param connection: in one :func:`include.store.pool.snapshot`.
    :param hits: best first.
    """
    passages = merge(hits, neighbours.stretches(connection, held, hits, n), top_k=top_k)
    wide = [(p.hit.content_hash, p.stretch.start, p.stretch.end) for p in passages if p.hit.content_hash and p.stretch]
    texts = iter(neighbours.texts(connection, held.collection_id, wide))
    return [
        replace(p.hit, start=p.stretch.start, end=p.stretch.end, text=next(texts)) if p.stretch else p.hit for p in passages
    ]


def merge(hits: Sequence[Hit], stretches: Mapping[int, Stretch], *, top_k: int) -> list[Passage]:
    """Hits whose chunks touch or overlap become one passage, in the place of the best of them.

    :param stretches: chunks around a hit, by its position.
    """
    passages: list[Passage] = []
    for position, hit in enumerate(hits):
        stretch = stretches.get(position)
        touching = [p for p in passages if stretch and _touch(p, hit, stretch)]
        if not touching:
            if len(passages) == top_k:
                break
            passages.append(Passage(hit, stretch))
            continue
        joined = _joined(touching, hit, stretch) if stretch else touching[0]
        kept = [p for p in passages if p not in touching[1:]]
        passages = [joined if p is touching[0] else p for p in kept]
    return passages


def _touch(passage: Passage, hit: Hit, stretch: Stretch) -> bool:
    return passage.stretch is not None and _version(passage.hit) == _version(hit) and passage.stretch.touches(stretch)


def _version(hit: Hit) -> tuple[str, UUID | None]:
    return hit.document, hit.content_hash


def _joined(touching: Sequence[Passage], hit: Hit, stretch: Stretch) -> Passage:
    """One passage of all of these; the first is the best."""
    for passage in touching:
        stretch = stretch.joined(passage.stretch) if passage.stretch else stretch
    duplicates = [d for h in (*(p.hit for p in touching), hit) for d in h.duplicates]
    return Passage(replace(touching[0].hit, duplicates=tuple(dict.fromkeys(duplicates))), stretch)

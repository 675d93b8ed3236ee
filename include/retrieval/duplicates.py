"""Which live documents are near-identical, so that somebody can clean up the source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.indexing import near_clusters
from include.indexing.near_clusters import Cluster
from include.store import signatures

if TYPE_CHECKING:
    from uuid import UUID

    from include.progress import Progress
    from include.store.generations import Generation
    from include.store.pool import Connection


@dataclass(frozen=True, slots=True)
class Copies:
    """Documents that are near-identical, by uri, each with its similarity to the nearest of them."""

    documents: tuple[tuple[str, float], ...]


def find_copies(connection: Connection, held: Generation, threshold: float, progress: Progress) -> list[Copies]:
    """Clusters of near-identical documents of a generation, largest first."""
    progress.step("read signatures", None)
    contents = signatures.contents(connection, held)
    found = _clusters(contents, threshold, progress)
    uris = signatures.uris(connection, held, [contents[m][0] for c in found for m in c.members])
    named = [Copies(tuple(sorted(_documents(c, contents, uris)))) for c in found]
    return sorted(named, key=lambda c: (-len(c.documents), c.documents))


def _clusters(contents: list[tuple[UUID, bytes, int]], threshold: float, progress: Progress) -> list[Cluster]:
    """By similar content, and contents that several documents have word for word, however short."""
    found = near_clusters.clusters([signature for _, signature, _ in contents], threshold, progress)
    linked = {m for c in found for m in c.members}
    alone = [i for i, (_, _, documents) in enumerate(contents) if documents > 1 and i not in linked]
    return [*found, *(Cluster((i,), (1.0,)) for i in alone)]


def _documents(
    cluster: Cluster, contents: list[tuple[UUID, bytes, int]], uris: dict[UUID, list[str]]
) -> list[tuple[str, float]]:
    listed = []
    for member, similarity in zip(cluster.members, cluster.similarities, strict=True):
        same = uris.get(contents[member][0], [])
        listed += [(uri, 1.0 if len(same) > 1 else round(similarity, 3)) for uri in same]
    return listed

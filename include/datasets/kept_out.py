"""What must not be learned: what golden queries are answered by, for they judge, and what development is told apart by."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from include.datasets.filters import normalised
from include.datasets.leakage import similar
from include.store import golden

if TYPE_CHECKING:
    from collections.abc import Iterable

    from include.datasets.live_index import LiveIndex
    from include.store.pool import Connection


@dataclass(frozen=True, slots=True)
class Golden:
    """The golden queries of a collection as a dataset sees them.

    :param questions: normalised → the documents that answer it.
    :param documents: all of these documents.
    :param spans: document → the characters of it that answer; (None, None): all of it.
    """

    questions: dict[str, frozenset[str]]
    documents: frozenset[str]
    spans: dict[str, set[tuple[int | None, int | None]]] = field(default_factory=dict)


def golden_of(connection: Connection, collection: int) -> Golden:
    """Read them; questions that nothing answers count too."""
    questions: dict[str, frozenset[str]] = {}
    spans: dict[str, set[tuple[int | None, int | None]]] = {}
    for query in golden.golden_queries(connection, collection):
        key = normalised(query.query)
        questions[key] = questions.get(key, frozenset()) | {span.document for span in query.spans}
        for span in query.spans:
            spans.setdefault(span.document, set()).add((span.start, span.end))
    return Golden(questions, frozenset().union(*questions.values()), spans)


class Barred:
    """Some documents with all their near-duplicates.

    A near-duplicate is one of the same cluster, or one that is as similar by itself: clusters are found by banding, which
    misses one pair in a hundred at the threshold.
    """

    def __init__(self, index: LiveIndex, documents: Iterable[str]) -> None:
        self._index, self.documents = index, frozenset(documents)
        self._groups = index.groups.named(self.documents)
        self._contents = index.contents(self.documents) if self.documents else {}
        self._known: dict[str, bool] = {}

    @property
    def clustered(self) -> frozenset[str]:
        """The documents and those of their clusters."""
        return self._index.groups.members(self._groups)

    def among(self, documents: Iterable[str]) -> frozenset[str]:
        """Those of these documents that are barred."""
        asked = frozenset(documents)
        if not self.documents:
            return frozenset()
        new = asked - self._known.keys()
        if new:
            alike = {uri for uri, _ in similar(self._index.contents(new), self._contents, self._index.threshold)}
            for uri in new:
                self._known[uri] = uri in alike or uri in self.documents or self._index.groups.of(uri) in self._groups
        return frozenset(uri for uri in asked if self._known[uri])

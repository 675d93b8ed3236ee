"""The live index as a dataset is made from it: one generation throughout, asked in batches, whatever goes live meanwhile."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import psycopg

from include.collection_file import NearDuplicates, Retrieval
from include.embedding.embedder import open_recorded, recorded_embedding
from include.errors import Transient
from include.indexing.signing import sign_missing
from include.retrieval.candidates import candidates, prepare
from include.retrieval.current import CurrentCollection
from include.retrieval.duplicates import find_copies
from include.retrieval.query import ALL_PRINCIPALS
from include.store import answering_passages, collections, generations
from include.store.pool import snapshot
from include.store.scope import open_scope
from include.store.search import read

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from uuid import UUID

    import numpy as np
    from numpy.typing import NDArray

    from include.collection_file import Mode
    from include.config import Settings
    from include.datasets.questions import Question
    from include.embedding.embedder import Embedder
    from include.progress import Progress
    from include.store.answering_passages import Passage
    from include.store.generations import Generation
    from include.store.pool import Pool
    from include.store.search import Hit

Item = TypeVar("Item")

BATCH = 256  # questions embedded and asked together
SURE = 10  # of the best by words, as many as a search shows, are certainly the best


@dataclass(frozen=True)
class LiveIndex:
    """A collection's live generation, and the model that made its vectors."""

    pool: Pool
    name: str
    held: Generation
    retrieval: Retrieval
    threshold: float
    embedder: Embedder
    progress: Progress

    @property
    def collection(self) -> int:
        """The collection's id."""
        return self.held.collection_id

    @cached_property
    def groups(self) -> Groups:
        """Which documents are near-duplicates of each other."""
        with self.pool.connection() as connection:
            sign_missing(connection, self.collection, self.progress, connection.commit)
            copies = find_copies(connection, self.held, self.threshold, self.progress)
        return Groups([[uri for uri, _ in one.documents] for one in copies])

    @cached_property
    def documents(self) -> frozenset[str]:
        """Every document that it holds."""
        with self.pool.connection() as connection:
            return answering_passages.documents_of(connection, self.held)

    def contents(self, uris: Iterable[str]) -> dict[str, tuple[UUID, bytes] | None]:
        """Content hash and signature of documents; None for one that it does not hold."""
        wanted = sorted(set(uris))
        with self.pool.connection() as connection:
            found = answering_passages.contents_of(connection, self.held, wanted)
        return {uri: found.get(uri) for uri in wanted}

    def placed(self, questions: Sequence[Question]) -> Iterator[Question | None]:
        """Each question with the passage that answers it and its score; None when the index does not hold its document.

        A passage that a question brings is kept, and scored; else it is the best one of its document.
        """
        for batch in _batches(questions, BATCH):
            vectors = self.embedder.embed_queries([question.query for question in batch])
            looked_up = [n for n, question in enumerate(batch) if question.passage is None or question.origin == "llm"]
            given = [n for n, question in enumerate(batch) if question.passage is not None and question.origin != "llm"]
            found: dict[int, Passage | None] = dict(zip(looked_up, self._best(batch, looked_up, vectors), strict=True))
            found |= dict(zip(given, self._scored(batch, given, vectors), strict=True))
            for number, question in enumerate(batch):
                passage = found[number]
                yield None if passage is None else question.of(passage)

    def _best(self, batch: Sequence[Question], which: Sequence[int], vectors: NDArray[np.float32]) -> list[Passage | None]:
        if not which:
            return []
        wanted = [(batch[n].document, batch[n].start, batch[n].end) for n in which]
        with self.pool.connection() as connection:
            return answering_passages.best_of_documents(connection, self.held, wanted, vectors[list(which)])

    def _scored(self, batch: Sequence[Question], which: Sequence[int], vectors: NDArray[np.float32]) -> list[Passage]:
        given = [passage for n in which if (passage := batch[n].passage) is not None]
        if not given:
            return []
        texts = self.embedder.embed_documents([passage.text for passage in given])
        scores = (vectors[list(which)] * texts).sum(axis=1)
        return [replace(passage, score=float(score)) for passage, score in zip(given, scores, strict=True)]

    def ask(self, queries: Iterable[str], *, depth: int, mode: Mode | None = None) -> Iterator[list[Hit]]:
        """The first ``depth`` chunks for each query, with their cosine similarity in ``scores["dense"]``; streamed.

        :param mode: None: as the collection serves, though never by words alone, which gives no similarity.
        """
        retrieval = self.retrieval.model_copy(update={"candidates": max(depth, 10)})
        chosen: Mode = mode or ("dense" if retrieval.mode == "dense" else "hybrid")
        for batch in _batches(queries, BATCH):
            vectors = self.embedder.embed_queries(batch)
            with self.pool.connection() as connection, snapshot(connection):
                scope = open_scope(connection, self.held, {}, ALL_PRINCIPALS)
                for text, vector in zip(batch, vectors, strict=True):
                    asked = prepare(text, self.held, retrieval, lambda _, v=vector: v, mode=chosen)  # type: ignore[misc]
                    ranked = candidates(connection, self.held, asked, scope, depth=retrieval.candidates, sure=min(depth, SURE))
                    yield read(connection, self.held, ranked[:depth], scope)


class Groups:
    """Near-identical documents: a document's group is the first of them by name, of others the document itself."""

    def __init__(self, copies: Iterable[Sequence[str]]) -> None:
        self._members = {min(uris): frozenset(uris) for uris in copies}
        self._of = {uri: name for name, uris in self._members.items() for uri in uris}

    def of(self, uri: str) -> str:
        """The name of its group."""
        return self._of.get(uri, uri)

    def named(self, uris: Iterable[str]) -> frozenset[str]:
        """The groups of several documents."""
        return frozenset(self.of(uri) for uri in uris)

    def members(self, groups: Iterable[str]) -> frozenset[str]:
        """All documents of these groups."""
        return frozenset(uri for group in groups for uri in self._members.get(group, (group,)))


@contextmanager
def open_live_index(
    settings: Settings, pool: Pool, name: str, *, progress: Progress, embedder: Embedder | None = None
) -> Iterator[LiveIndex]:
    """The live index of a collection.

    :param embedder: instead of the one that made its vectors.
    :raises BadData: the collection has no live index.
    :raises Transient: another run dropped the generation meanwhile.
    """
    with pool.connection() as connection:
        held = generations.require_live(connection, collections.collection_id(connection, name), name)
    known = CurrentCollection(settings, name).get()
    threshold = (known.near_duplicates if known else NearDuplicates()).threshold or NearDuplicates().threshold or 1.0
    model = embedder or open_recorded(held.embedder, recorded_embedding(held.spec), settings)
    try:
        yield LiveIndex(pool, name, held, known.retrieval if known else Retrieval(), threshold, model, progress)
    except psycopg.errors.UndefinedTable as error:
        raise Transient(
            f"the dataset of {name} was not made", "another run dropped the generation meanwhile", "Run again"
        ) from error


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    left = iter(items)
    while batch := list(islice(left, size)):
        yield batch

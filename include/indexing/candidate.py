"""Builds the index that an embedder on trial is judged by: complete, from the stored texts, never live.

It goes through the queue and the workers of every other index, so that any number of processes may build one together, a
killed one loses a batch and not the work, and no text is embedded whose vector some generation of the same model holds. When
the model is promoted the generation that is built for it finds all its vectors here.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import psycopg

from include.collection_file import Chunking, load_collection
from include.embedding.embedder import check_window, open_embedder
from include.errors import RagworksError, Transient
from include.indexing.context import IndexContext
from include.indexing.merge import CATCH_UPS
from include.indexing.spec import spec_hash, with_embedder
from include.indexing.worker import drain
from include.store import chunks, collections, generations, runs, work_items

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from include.collection_file import Embedding
    from include.config import Settings
    from include.embedding.embedder import Embedder
    from include.progress import Progress
    from include.sources.source import Document, SourceObject
    from include.store.generations import Generation
    from include.store.pool import Connection, Pool
    from include.store.runs import Run

logger = logging.getLogger(__name__)


class _StoredTexts:
    """No source: a candidate is made of what the database holds, also where the source cannot be reached."""

    def listing(self) -> Iterator[SourceObject]:
        """Never asked."""
        raise NotImplementedError("a candidate reads no source")

    def read(self, obj: SourceObject) -> Iterator[Document]:
        """Never asked."""
        raise NotImplementedError("a candidate reads no source")

    def read_many(self, objects: Sequence[SourceObject]) -> Iterator[tuple[SourceObject, Iterator[Document]]]:
        """Never asked."""
        raise NotImplementedError("a candidate reads no source")


def build_candidate(
    settings: Settings,
    pool: Pool,
    collection_name: str,
    embedding: Embedding,
    *,
    run_key: str,
    progress: Progress,
    embedder: Embedder | None = None,
) -> Generation:
    """The whole collection with another embedder, cut and indexed as the live generation is.

    What is there of it already is gone on with, and brought in step with the documents as they are now.

    :param embedding: the model, as a section `embedding` of a collection file; its ``storage`` is the live generation's.
    :param run_key: of the training it belongs to; :data:`include.store.generations.REFERENCE` for a model that every
        challenger is compared with: it is kept for the next one.
    :param embedder: instead of the one that ``embedding`` names.
    :return: complete, with its indexes.
    :raises BadData: the collection has no live generation, or the model's vectors are refused.
    :raises BadConfiguration: the model is not there, or reads less than the chunks are long.
    :raises Transient: documents change more quickly than they are embedded, or another process dropped it.
    """
    model = embedder or open_embedder(embedding, settings)
    with pool.connection() as connection, connection.transaction():
        collection = collections.collection_id(connection, collection_name)
        live = generations.require_live(connection, collection, collection_name)
        _check_window(settings, collection_name, live, embedding, model)
        spec = with_embedder(live.spec, embedding.model_copy(update={"storage": live.storage}), model)
        collections.lock_publication(connection, collection)  # two that begin at once make one
        key = f"candidate/{run_key or 'reference'}/{spec_hash(spec)[:12]}"
        run = runs.start_run(connection, collection, key, mode="candidate", allow_deletes=False)
        target = _target(connection, collection, spec, model, run_key)
        runs.save_plan(connection, run.id, target.id, {}, estimate={}, reads={})
    context = _context(settings, pool, collection_name, target, model, progress)
    started = time.monotonic()
    with _noted(pool, run):
        _fill(context, run, target)
        _finish(context, target)
    logger.info("candidate generation %d of %s: complete after %.1f s", target.id, collection_name, time.monotonic() - started)
    with pool.connection() as connection:
        return generations.generation(connection, target.id)


def drop_candidates(pool: Pool, collection: int, *, run_key: str | None = None, keep: Iterable[int] = ()) -> list[int]:
    """Drop the candidates of a training, or those of all trainings; a model that is promoted later embeds anew.

    :param run_key: :data:`include.store.generations.REFERENCE` drops those that are kept to be compared with; None drops
        the candidates of all trainings, and not these.
    :param keep: generations that stay.
    :return: which were dropped.
    """
    with pool.connection() as connection, connection.transaction():
        collections.lock_publication(connection, collection)
        found = generations.candidates(connection, collection, run_key)
        if run_key is None:
            found = [g for g in found if g.metrics.get("run_key") != generations.REFERENCE]
        dropped = [g for g in found if g.id not in set(keep)]
        for candidate in dropped:
            generations.drop_generation(connection, candidate)
    return [g.id for g in dropped]


def _target(connection: Connection, collection: int, spec: dict[str, Any], model: Embedder, run_key: str) -> Generation:
    """The candidate of this training with this spec, made when there is none."""
    for over in generations.abandoned_candidates(connection, collection):
        if over.metrics.get("run_key") != run_key:
            generations.drop_generation(connection, over)
    wanted = spec_hash(spec)
    own = generations.candidates(connection, collection, run_key)
    there = next((g for g in own if g.spec_hash == wanted), None)
    if there is not None:
        return there
    for other in own:  # the live generation was cut differently when that one was begun
        if run_key != generations.REFERENCE:
            generations.drop_generation(connection, other)
    return generations.create_generation(
        connection, collection, spec=spec, spec_hash=wanted, embedder=model.fingerprint, dimension=model.dimension,
        storage=spec["embedding"]["storage"], candidate_of=run_key,
    )  # fmt: skip


def _check_window(settings: Settings, name: str, live: Generation, embedding: Embedding, model: Embedder) -> None:
    chunking = Chunking.model_validate({key: value for key, value in live.spec["chunking"].items() if key != "version"})
    collection = load_collection(settings, name).model_copy(update={"chunking": chunking, "embedding": embedding})
    check_window(collection, model)


def _context(
    settings: Settings, pool: Pool, name: str, target: Generation, model: Embedder, progress: Progress
) -> IndexContext:
    whole = IndexContext(settings, load_collection(settings, name), _StoredTexts(), model, pool, progress)
    return whole.for_generation(target)


def _fill(context: IndexContext, run: Run, target: Generation) -> None:
    for _ in range(CATCH_UPS):
        with context.pool.connection() as connection:
            left = work_items.enqueue_pending(connection, target.collection_id, target.id, run.id)
        if not left:
            return
        drain(context, run, target)
    raise Transient(
        f"candidate generation {target.id} is not complete", "the documents change as quickly as they are embedded", "Run again"
    )


def _finish(context: IndexContext, target: Generation) -> None:
    with context.pool.connection() as connection, generations.attending(connection, target.id):
        context.progress.step("build the vector index", None)
        chunks.remove_deleted(connection, target)
        chunks.refresh_metadata(connection, target.id)
        index = context.collection.index
        generations.build_index(connection, target, m=index.m, ef_construction=index.ef_construction)
        generations.complete_candidate(connection, target.id)
        connection.commit()
        generations.analyze(connection, target)
        connection.commit()


@contextmanager
def _noted(pool: Pool, run: Run) -> Iterator[None]:
    """How the run of it ended."""
    try:
        yield
    except BaseException as error:
        reason = str(error) if isinstance(error, RagworksError) else type(error).__name__
        with suppress(psycopg.Error), pool.connection() as connection:
            runs.finish_run(connection, run.id, "failed", reason)
        raise
    with pool.connection() as connection:
        runs.finish_run(connection, run.id, "done")

"""Step 2 of a run: workers take documents from the shared queue, chunk, embed, validate and stage them.

A batch of documents is written in one transaction with its queue entries, so a killed worker leaves nothing half done.
A text is embedded only when no generation of the same embedder holds its vector.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from include.embedding.embedder import CANARY_TEXTS, CANARY_TOLERANCE
from include.errors import BadData, Terminal
from include.indexing.batch import Prepared, chunk_rows, refusals, validate_chunks
from include.indexing.chunking import chunk_document
from include.indexing.hashing import text_hash
from include.indexing.spec import generation_spec, spec_hash
from include.quality.gates import check_rejections
from include.store import changes, chunks, collections, documents, generations, quarantine, reports, runs, work_items

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from numpy.typing import NDArray

    from include.indexing.batch import ChunkVerdict, Vectors
    from include.indexing.context import IndexContext
    from include.store.generations import Generation
    from include.store.pool import Connection
    from include.store.runs import Run
    from include.store.work_items import WorkItem

logger = logging.getLogger(__name__)

FIRST_BATCH, MAX_BATCH = 400_000, 8_000_000  # characters: about 500 and 10,000 chunks
BATCH_SECONDS = 15.0  # aim: what a killed worker loses, and how often progress is committed
BATCH_DOCUMENTS = 20_000
POLL_SECONDS = 0.5


def index_shard(context: IndexContext, key: str) -> int:
    """Work on the run's generation until its queue is empty; any number of processes may do this at once.

    :return: documents this worker finished.
    :raises BadData: so many documents were refused that the run cannot be published.
    """
    with context.pool.connection() as connection:
        collection = collections.collection_id(connection, context.collection.name)
        run = runs.run_by_key(connection, collection, key)
        target = generations.generation(connection, run.generation_id or 0)
        total = work_items.remaining(connection, target.id)
    if not total:
        return 0
    if spec_hash(generation_spec(context.collection, context.embedder)) != target.spec_hash:
        raise Terminal(
            f"the settings of {context.collection.name} changed since this run was planned",
            f"generation {target.id} was planned with others", "Run it again from its plan step",
        )  # fmt: skip
    started = time.monotonic()
    with work_items.worker(context.pool) as worker_id:
        finished = _Worker(context, collection, run, target, worker_id, total).drain()
    with context.pool.connection() as connection:
        runs.add_seconds(connection, run.id, "index", time.monotonic() - started)
    return finished


class _Worker:
    def __init__(
        self, context: IndexContext, collection: int, run: Run, target: Generation, worker_id: int, total: int
    ) -> None:
        self._context, self._collection, self._run, self._target = context, collection, run, target
        self._id, self._total, self._finished = worker_id, total, 0
        self._characters = FIRST_BATCH
        self._canary_checked = False

    def drain(self) -> int:
        while True:
            with self._context.pool.connection() as connection:
                items = work_items.claim(
                    connection, self._target.id, self._id, characters=self._characters, limit=BATCH_DOCUMENTS
                )
                left = len(items) or work_items.remaining(connection, self._target.id)
            if not left:
                return self._finished
            if not items:
                time.sleep(POLL_SECONDS)  # others hold the rest; if they die their items come back
                continue
            started = time.monotonic()
            self._finished += self._process(items)
            self._adapt(time.monotonic() - started)

    def _adapt(self, seconds: float) -> None:
        """Aim at batches of BATCH_SECONDS: large ones for quick embedders, small ones for slow machines."""
        factor = min(4.0, max(0.5, BATCH_SECONDS / max(seconds, 0.1)))
        self._characters = int(min(MAX_BATCH, max(FIRST_BATCH, self._characters * factor)))

    def _process(self, items: Sequence[WorkItem]) -> int:
        prepared = self._prepare(items)
        if len(prepared) < len(items):
            return self._give_back()
        vectors, embedded = self._vectors(prepared)
        limits = self._context.collection.chunking
        verdict = validate_chunks(prepared, vectors, max_tokens=limits.max_tokens, dimension=self._target.dimension)
        with self._context.pool.connection() as connection:
            self._target = generations.generation(connection, self._target.id, lock=True)  # it may be live by now
            written = self._store(connection, prepared, vectors, embedded, verdict)
            if not work_items.complete(connection, self._target.id, self._id, [i.document_id for i in items]):
                connection.rollback()
                return self._give_back()
        logger.info("indexed %d documents, %d texts embedded", written, len(embedded))
        if verdict.failures:
            self._stop_if_too_many()
        return written

    def _give_back(self) -> int:
        """A document changed while it was worked on: let go of the batch; what is still wanted of it is claimed again."""
        logger.info("a claim was lost to a newer change: the batch is done again")
        with self._context.pool.connection() as connection:
            work_items.release(connection, self._target.id, self._id)
            work_items.enqueue_pending(connection, self._collection, self._target.id, self._run.id)
        return 0

    def _prepare(self, items: Sequence[WorkItem]) -> list[Prepared]:
        with self._context.pool.connection() as connection:
            texts = documents.texts(connection, self._collection, [i.content_hash for i in items])
        settings, tokenizer = self._context.collection.chunking, self._context.embedder.tokenizer
        prepared = []
        for item in items:
            text = texts.get(item.content_hash)
            if text is None:
                continue  # another run replaced this version, and published
            pieces = chunk_document(text, tokenizer, settings)
            prepared.append(Prepared(item, text, pieces, [text_hash(c.text) for c in pieces]))
        return prepared

    def _vectors(self, prepared: Sequence[Prepared]) -> tuple[dict[UUID, NDArray[np.float32]], dict[UUID, str]]:
        """Vectors of all texts of the batch, and hash → uri of the document that made each new one be embedded."""
        texts = {h: c.text for p in prepared for h, c in zip(p.hashes, p.chunks, strict=True)}
        with self._context.pool.connection() as connection:
            vectors = chunks.known_embeddings(connection, self._reusable(connection), list(texts))
        first_seen = {h: p.item.uri for p in reversed(prepared) for h in p.hashes if h not in vectors}
        if first_seen:
            self._check_canary()
            done = f"{self._finished} of {self._total} documents indexed, embedding"
            self._context.progress.step(done, len(first_seen))
            made = self._context.embedder.embed_documents([texts[h] for h in first_seen], self._context.progress.advance)
            vectors.update(zip(first_seen, made, strict=True))
        return vectors, first_seen

    def _reusable(self, connection: Connection) -> list[Generation]:
        """Generations whose vectors are this embedder's, by its canary too; a rebuild trusts only what it made itself."""
        if self._run.mode == "rebuild":
            return [self._target]
        mine = self._target.embedder, self._target.storage, self._target.dimension
        found = generations.generations(connection, self._collection)
        same = [g for g in found if (g.embedder, g.storage, g.dimension) == mine]
        reference = self._target.canary or next((g.canary for g in reversed(same) if g.canary), None)
        return [g for g in same if not (g.canary and reference and canary_drift(g.canary, reference) > CANARY_TOLERANCE)]

    def _check_canary(self) -> None:
        """Stop when the model no longer gives the vectors that the generation, or those it reuses, were built with."""
        if self._canary_checked:
            return
        made = self._context.embedder.embed_documents(CANARY_TEXTS).ravel().tolist()
        with self._context.pool.connection() as connection:
            reusable = self._reusable(connection)
            before = [g.canary for g in reusable if g.canary]
            drift = max((canary_drift(canary, made) for canary in before), default=0.0)
            if drift > CANARY_TOLERANCE:
                raise Terminal(
                    f"the embedder of {self._context.collection.name} changed under the same name",
                    f"its canary strings moved by {drift:.4f} cosine, more than {CANARY_TOLERANCE}",
                    "Restore the model, or run with --rebuild to embed everything again",
                )
            generations.save_canary(connection, self._target.id, made)
        self._canary_checked = True

    def _store(
        self,
        connection: Connection,
        prepared: Sequence[Prepared],
        vectors: Vectors,
        embedded: Mapping[UUID, str],
        verdict: ChunkVerdict,
    ) -> int:
        """Write the good documents and quarantine the refused, in the caller's transaction; returns how many are good."""
        good = [p for p in prepared if p.item.document_id not in verdict.failures]
        refused = [p for p in prepared if p.item.document_id in verdict.failures]
        rows = chunk_rows(good, vectors)
        chunks.write_documents(connection, self._target, [p.item.document_id for p in good], rows)
        quarantine.resolve_documents(connection, self._target.id, [p.item.uri for p in good])
        if refused:
            documents.reject_content(connection, self._target.id, {p.item.document_id: p.item.content_hash for p in refused})
            objects = documents.owners(connection, self._collection, [p.item.uri for p in refused])
            found = refusals(refused, verdict.failures, objects, self._target.id)
            quarantine.save_refusals(connection, self._collection, self._run.id, found)
            logger.warning("quarantined %d documents whose chunks failed validation", len(refused))
        reports.save_report(
            connection, self._run.id, "chunks",
            success=not refused, evaluated=verdict.evaluated, rejected=len(refused), result=verdict.result,
        )  # fmt: skip
        first_in = Counter(embedded.values())
        runs.save_outcomes(connection, [(len(p.chunks), first_in[p.item.uri], p.item.run_id, p.item.uri) for p in good])
        reused = sum(row.text_hash not in embedded for row in rows)
        runs.add_counts(connection, self._run.id, embedded=len(embedded), reused=reused)
        return len(good)

    def _stop_if_too_many(self) -> None:
        """Do not go on embedding what the gate will stop anyway."""
        with self._context.pool.connection() as connection:
            rejected = quarantine.count_open(connection, self._collection, self._target.id)[1]
            sizes = changes.sizes(connection, self._collection, self._target.id)
            try:
                check_rejections(rejected, sizes.awaiting_publication(self._target), self._context.collection.validation)
            except BadData as error:
                runs.finish_run(connection, self._run.id, "failed", str(error))
                connection.commit()
                raise


def canary_drift(before: Sequence[float], now: Sequence[float]) -> float:
    """Largest cosine distance between two flattened sets of canary vectors; 2 when their shapes differ."""
    if len(before) != len(now):
        return 2.0
    left, right = (np.asarray(side, dtype=np.float32).reshape(len(CANARY_TEXTS), -1) for side in (before, now))
    return float(np.max(1.0 - np.sum(left * right, axis=1)))

"""A worker: takes documents from the shared queue, chunks, embeds, validates and stages them until the queue is empty.

A batch of documents is written in one transaction with its queue entries, so a killed worker leaves nothing half done.
A text is embedded only when no generation of the same embedder holds its vector.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg

from include.errors import BadData, ServiceUnavailable, Transient
from include.hashing import text_hash
from include.indexing.batch import Prepared, chunk_rows, refusals, validate_chunks
from include.indexing.canary import check_canary
from include.indexing.embeddable import embed_texts
from include.indexing.estimate import host
from include.indexing.lease import ClaimLost, Lease
from include.indexing.reuse import reusable
from include.lexical import bm25
from include.quality.gates import check_rejections
from include.store import changes, chunks, documents, generations, quarantine, rates, reports, runs, work_items
from include.store.quarantine import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    import numpy as np
    from numpy.typing import NDArray

    from include.indexing.batch import ChunkVerdict, Vectors
    from include.indexing.context import IndexContext
    from include.store.generations import Generation
    from include.store.pool import Connection
    from include.store.runs import Run
    from include.store.work_items import Worker, WorkItem

logger = logging.getLogger(__name__)

FIRST_BATCH, MAX_BATCH = 400_000, 8_000_000  # characters: about 500 and 10,000 chunks
BATCH_SECONDS = 15.0  # aim: what a killed worker loses, and how often progress is committed
BATCH_DOCUMENTS = 20_000
POLL_SECONDS = 0.5
MOST_LOST = 2  # batches, one after the other, that others took over: a machine that was asleep loses one
LEAST_MEASURED = 2000  # tokens, to tell how fast a machine is


def drain(context: IndexContext, run: Run, target: Generation) -> int:
    """Work on any generation until its queue is empty, for this run; with the settings and the model it was begun with.

    :return: documents this worker finished.
    """
    with context.pool.connection() as connection:
        total = work_items.remaining(connection, target.id)
    if not total:
        return 0
    started = time.monotonic()
    with context.pool.connection() as connection, generations.attending(connection, target.id):
        with work_items.worker(context.pool) as worker:
            finished = _Worker(context.for_generation(target), run, target, worker, total).drain()
        runs.add_seconds(connection, run.id, "index", time.monotonic() - started)
    return finished


class _Worker:
    def __init__(self, context: IndexContext, run: Run, target: Generation, worker: Worker, total: int) -> None:
        self._context, self._run, self._target = context, run, target
        self._collection, self._total, self._finished = target.collection_id, total, 0
        self._worker, self._id, self._lost = worker, worker.id, 0
        begun = target.state == "building" and bool(target.metrics.get("rebuild"))  # by a run that another goes on for
        self._rebuild = begun or (run.mode == "rebuild" and target.id == run.generation_id)
        self._characters = FIRST_BATCH
        self._canary_checked = False
        self._canary: list[float] | None = None  # of the vectors that are used again
        self._tokens, self._seconds = 0, 0.0  # embedded, and how long that took

    def drain(self) -> int:
        try:
            return self._drain()
        except MemoryError:
            raise  # as if the kernel had killed it: counted against what it worked on
        except Exception:
            with suppress(psycopg.Error), self._context.pool.connection() as connection:
                work_items.release(connection, self._target.id, self._id)
            raise
        finally:
            self._keep_rate()

    def _drain(self) -> int:
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
            if items[0].attempts > work_items.MAX_ATTEMPTS:
                self._refuse_deadly(items[0])
                continue
            self._finished += self._process(items)
            self._adapt(time.monotonic() - started)

    def _refuse_deadly(self, item: WorkItem) -> None:
        """Quarantine a document over which one worker after the other died."""
        problem = f"{item.attempts - 1} workers died over it (out of memory?); split the document, or give workers more memory"
        with self._context.pool.connection() as connection:
            if documents.reject_content(connection, self._target.id, {item.document_id: item.content_hash}):
                owners = documents.owners(connection, self._collection, [item.uri])
                found = Refusal(owners.get(item.uri, item.uri), item.uri, "", "chunk", "survives", problem, self._target.id)
                self._quarantine(connection, [found], {item.uri: item.run_id})
            work_items.complete(connection, self._target.id, self._id, [item.document_id])
        logger.warning("quarantined a document: %s", problem)
        self._stop_if_too_many()

    def _quarantine(self, connection: Connection, found: Sequence[Refusal], queued_by: Mapping[str, int]) -> None:
        """Save refusals, also with the documents of the runs that queued them."""
        quarantine.save_refusals(connection, self._collection, self._run.id, found)
        for run_id in set(queued_by.values()):
            runs.add_quarantined(connection, run_id, [(r.uri, r.detail) for r in found if queued_by[r.uri] == run_id])

    def _keep_rate(self) -> None:
        """Keep how fast this machine embeds, for the next plan; a handful of texts says little."""
        if self._tokens >= LEAST_MEASURED:
            fingerprint = self._context.embedder.fingerprint
            with suppress(psycopg.Error), self._context.pool.connection() as connection:
                rates.save_rate(connection, host(), fingerprint, self._tokens, self._seconds)

    def _adapt(self, seconds: float) -> None:
        """Aim at batches of BATCH_SECONDS: large ones for quick embedders, small ones for slow machines."""
        factor = min(4.0, max(0.5, BATCH_SECONDS / max(seconds, 0.1)))
        self._characters = int(min(MAX_BATCH, max(FIRST_BATCH, self._characters * factor)))

    def _process(self, items: Sequence[WorkItem]) -> int:
        try:
            with Lease(self._worker, self._target.id, len(items)) as lease:
                written = self._index(items, lease)
        except ClaimLost:
            self._give_back(items)
            return 0
        self._lost = 0
        return written

    def _index(self, items: Sequence[WorkItem], lease: Lease) -> int:
        prepared = self._prepare(items)
        if len(prepared) < len(items):
            raise ClaimLost
        lease.sign()
        vectors, embedded, refused = self._vectors(prepared, lease)
        lease.sign()
        limits = self._context.collection.chunking
        verdict = validate_chunks(
            prepared, vectors, max_tokens=limits.max_tokens, dimension=self._target.dimension, refused=refused
        )
        with self._context.pool.connection() as connection:
            if self._target.canary is None and self._canary is not None:  # before the row is locked against it
                generations.save_canary(connection, self._target.id, self._canary)
            self._target = generations.generation(connection, self._target.id, lock=True)  # it may be live by now
            if self._target.state not in ("building", "live", "candidate"):
                raise Transient(f"generation {self._target.id} is {self._target.state}", "another run replaced it", "Run again")
            written = self._store(connection, prepared, vectors, embedded, verdict)
            if not work_items.complete(connection, self._target.id, self._id, [i.document_id for i in items]):
                raise ClaimLost  # which rolls back
        logger.info("indexed %d documents, %d texts embedded", written, len(embedded))
        if verdict.failures:
            self._stop_if_too_many()
        return written

    def _give_back(self, items: Sequence[WorkItem]) -> None:
        """Let go of a batch that others took over, or of which a document changed; what is still wanted is claimed again.

        :raises Transient: others took over the one before too: workers could take the same work from each other for ever.
        """
        claimed = {item.document_id: item.content_hash for item in items}
        with self._context.pool.connection() as connection:
            taken = work_items.taken_over(connection, self._target.id, self._id, claimed)
            work_items.release(connection, self._target.id, self._id)
            work_items.enqueue_pending(connection, self._collection, self._target.id, self._run.id)
        if self._worker.connection.closed:
            raise ServiceUnavailable("Postgres closed the connection that holds this worker's claims", "", "Run again")
        if not taken:
            logger.info("a claim was lost to a newer change: the batch is done again")
            return
        logger.warning("others took over %d documents: this worker showed no progress for too long", len(items))
        self._lost += 1
        if self._lost >= MOST_LOST:
            why = f"it showed no progress for over {work_items.LEASE_SECONDS // 60} minutes"
            raise Transient("other workers took this one's documents over twice", why, "Run again, on a faster machine")

    def _prepare(self, items: Sequence[WorkItem]) -> list[Prepared]:
        with self._context.pool.connection() as connection:
            texts = documents.texts(connection, self._collection, [i.content_hash for i in items])
        context = self._context
        cut = context.cutter.cut(texts, context.embedder.tokenizer, context.collection.chunking)
        return [
            Prepared(item, texts[item.content_hash], pieces, [text_hash(c.text) for c in pieces])
            for item in items
            if (pieces := cut.get(item.content_hash)) is not None  # else another run replaced this version, and published
        ]

    def _vectors(
        self, prepared: Sequence[Prepared], lease: Lease
    ) -> tuple[dict[UUID, NDArray[np.float32]], dict[UUID, str], dict[UUID, str]]:
        """Vectors of the texts of the batch, hash → uri of the document that made each new one be embedded, hash → why not."""
        pieces = {h: c for p in prepared for h, c in zip(p.hashes, p.chunks, strict=True)}
        with self._context.pool.connection() as connection:
            reuse = reusable(connection, self._target, rebuild=self._rebuild)
            vectors = chunks.known_embeddings(connection, reuse.sources, list(pieces))
        self._canary = reuse.canary
        first_seen = {h: p.item.uri for p in reversed(prepared) for h in p.hashes if h not in vectors}
        refused: dict[UUID, str] = {}
        if first_seen:
            if not self._canary_checked:
                with self._context.pool.connection() as connection:
                    check_canary(connection, self._context, self._target, rebuild=self._rebuild)
                self._canary_checked = True
            lease.sign()

            def advance(count: int) -> None:
                lease.sign()
                self._context.progress.advance(count)

            done = f"{self._finished} of {self._total} documents indexed, embedding"
            self._context.progress.step(done, len(first_seen))
            started = time.monotonic()
            new = list(first_seen)
            made, bad = embed_texts(self._context.embedder, [pieces[h].text for h in new], advance)
            if not bad:  # else many were embedded twice
                self._seconds += time.monotonic() - started
                self._tokens += sum(pieces[h].tokens for h in first_seen)
            vectors.update((new[i], vector) for i, vector in made.items())
            refused = {new[i]: why for i, why in bad.items()}
        return vectors, {h: uri for h, uri in first_seen.items() if h not in refused}, refused

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
        rows = chunk_rows(good, vectors, bm25.recorded(self._target.spec), packed=self._target.packed)
        contents = {p.item.document_id: p.item.content_hash for p in good}
        chunks.write_documents(connection, self._target, contents, rows, run_id=self._run.id)
        quarantine.resolve_documents(connection, self._target.id, [p.item.uri for p in good])
        if refused:
            contents = {p.item.document_id: p.item.content_hash for p in refused}
            present = documents.reject_content(connection, self._target.id, contents)
            shown = [p for p in refused if p.item.document_id in present]
            objects = documents.owners(connection, self._collection, [p.item.uri for p in shown])
            found = refusals(shown, verdict.failures, objects, self._target.id)
            self._quarantine(connection, found, {p.item.uri: p.item.run_id for p in shown})
            logger.warning("quarantined %d documents whose chunks failed validation", len(refused))
        reports.save_report(
            connection, self._run.id, "chunks",
            success=not refused, evaluated=verdict.evaluated, rejected=len(refused), result=verdict.result,
        )  # fmt: skip
        first_in = Counter(embedded.values())
        runs.save_outcomes(connection, [(len(p.chunks), first_in[p.item.uri], p.item.run_id, p.item.uri) for p in good])
        reused = sum(row.text_hash not in embedded for row in rows)
        tokens = sum({row.text_hash: row.tokens for row in rows if row.text_hash in embedded}.values())
        runs.add_counts(connection, self._run.id, embedded=len(embedded), tokens=tokens, reused=reused)
        return len(good)

    def _stop_if_too_many(self) -> None:
        """Do not go on embedding what the gate will stop anyway."""
        with self._context.pool.connection() as connection:
            rejected = quarantine.count_open(connection, self._collection, self._target.id)[1]
            sizes = changes.sizes(connection, self._collection, self._target.id)
            try:
                asked = self._context.collection
                check_rejections(
                    rejected, sizes.awaiting_publication(self._target), asked.validation, name=asked.name, held=sizes.held
                )
            except BadData as error:
                runs.finish_run(connection, self._run.id, "failed", str(error))
                connection.commit()
                raise

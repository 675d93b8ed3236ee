"""Step 2 of a run: workers take documents from the shared queue, chunk, embed, validate and stage them.

A batch of documents is written in one transaction with its queue entries, so a killed worker leaves nothing half done.
A text is embedded only when no generation of the same embedder holds its vector.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from include.embedding.embedder import CANARY_TEXTS, CANARY_TOLERANCE
from include.errors import BadData, Terminal
from include.indexing.chunking import Chunk, chunk_document
from include.indexing.hashing import text_hash
from include.quality.gates import check_rejections
from include.quality.suites import chunk_rules
from include.quality.validate import validate
from include.store import changes, chunks, collections, documents, generations, quarantine, reports, runs, work_items
from include.store.chunks import ChunkRow
from include.store.quarantine import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from numpy.typing import NDArray

    from include.indexing.context import IndexContext
    from include.quality.validate import Failure
    from include.store.generations import Generation
    from include.store.pool import Connection
    from include.store.runs import Run
    from include.store.work_items import WorkItem

logger = logging.getLogger(__name__)

FIRST_BATCH, MAX_BATCH = 400_000, 8_000_000  # characters: about 500 and 10,000 chunks
BATCH_SECONDS = 15.0  # aim: what a killed worker loses, and how often progress is committed
BATCH_DOCUMENTS = 20_000
POLL_SECONDS = 0.5


@dataclass(slots=True)
class _Prepared:
    """A document of the batch on its way to the index."""

    item: WorkItem
    text: str
    chunks: list[Chunk]
    hashes: list[UUID]


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
    context.progress.step("index", total)
    started = time.monotonic()
    with work_items.worker(context.pool) as worker_id:
        finished = _Worker(context, collection, run, target, worker_id).drain()
    with context.pool.connection() as connection:
        runs.add_seconds(connection, run.id, "index", time.monotonic() - started)
    return finished


class _Worker:
    def __init__(self, context: IndexContext, collection: int, run: Run, target: Generation, worker_id: int) -> None:
        self._context, self._collection, self._run, self._target = context, collection, run, target
        self._id = worker_id
        self._characters = FIRST_BATCH
        self._canary_checked = False

    def drain(self) -> int:
        finished = 0
        while True:
            with self._context.pool.connection() as connection:
                items = work_items.claim(
                    connection, self._target.id, self._id, characters=self._characters, limit=BATCH_DOCUMENTS
                )
                left = len(items) or work_items.remaining(connection, self._target.id)
            if not left:
                return finished
            if not items:
                time.sleep(POLL_SECONDS)  # others hold the rest; if they die their items come back
                continue
            started = time.monotonic()
            finished += self._process(items)
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
        verdict = self._validate(prepared, vectors)
        with self._context.pool.connection() as connection:
            written = self._store(connection, prepared, vectors, embedded, verdict)
            if not work_items.complete(connection, self._target.id, self._id, [i.document_id for i in items]):
                connection.rollback()
                return self._give_back()
        self._context.progress.advance(len(items))
        logger.info("indexed %d documents, %d texts embedded", written, len(embedded))
        if verdict[0]:
            self._stop_if_too_many()
        return written

    def _give_back(self) -> int:
        """A document changed while it was worked on: let go of the batch, what is left of it is claimed again."""
        logger.info("a claim was lost to a newer change: the batch is done again")
        with self._context.pool.connection() as connection:
            work_items.release(connection, self._target.id, self._id)
        return 0

    def _prepare(self, items: Sequence[WorkItem]) -> list[_Prepared]:
        with self._context.pool.connection() as connection:
            texts = documents.texts(connection, self._collection, [i.content_hash for i in items])
        settings, tokenizer = self._context.collection.chunking, self._context.embedder.tokenizer
        prepared = []
        for item in items:
            text = texts.get(item.content_hash)
            if text is None:
                continue  # another run replaced this version, and published
            pieces = chunk_document(text, tokenizer, settings)
            prepared.append(_Prepared(item, text, pieces, [text_hash(c.text) for c in pieces]))
        return prepared

    def _vectors(self, prepared: Sequence[_Prepared]) -> tuple[dict[UUID, NDArray[np.float32]], dict[UUID, str]]:
        """Vectors of all texts of the batch, and hash → uri of the document that made each new one be embedded."""
        texts = {h: c.text for p in prepared for h, c in zip(p.hashes, p.chunks, strict=True)}
        with self._context.pool.connection() as connection:
            vectors = chunks.known_embeddings(connection, self._reusable(connection), list(texts))
        first_seen = {h: p.item.uri for p in reversed(prepared) for h in p.hashes if h not in vectors}
        if first_seen:
            self._check_canary()
            made = self._context.embedder.embed_documents([texts[h] for h in first_seen])
            vectors.update(zip(first_seen, made, strict=True))
        return vectors, first_seen

    def _reusable(self, connection: Connection) -> list[Generation]:
        """Generations whose vectors are this embedder's; a rebuild trusts only what it made itself."""
        if self._run.mode == "rebuild":
            return [self._target]
        return [
            g
            for g in generations.generations(connection, self._collection)
            if (g.embedder, g.storage, g.dimension) == (self._target.embedder, self._target.storage, self._target.dimension)
        ]

    def _check_canary(self) -> None:
        """Stop when the model no longer gives the vectors that the generation was built with."""
        if self._canary_checked:
            return
        made = self._context.embedder.embed_documents(CANARY_TEXTS)
        with self._context.pool.connection() as connection:
            before = generations.generation(connection, self._target.id).canary
            if before is None:
                generations.save_canary(connection, self._target.id, made.ravel().tolist())
            elif (drift := canary_drift(np.array(before, dtype=np.float32), made)) > CANARY_TOLERANCE:
                raise Terminal(
                    f"the embedder of {self._context.collection.name} changed under the same name",
                    f"its canary strings moved by {drift:.4f} cosine, more than {CANARY_TOLERANCE}",
                    "Restore the model, or run with --rebuild to embed everything again",
                )
        self._canary_checked = True

    def _validate(
        self, prepared: Sequence[_Prepared], vectors: Mapping[UUID, NDArray[np.float32]]
    ) -> tuple[dict[int, Failure], Mapping[str, Any], int]:
        """(failures by document id, result to store, chunks evaluated)."""
        owners = [p for p in prepared for _ in p.chunks]
        pieces = [(p, c, vectors[h]) for p in prepared for c, h in zip(p.chunks, p.hashes, strict=True)]
        matrix = np.array([v for _, _, v in pieces], dtype=np.float32)
        columns: dict[str, Sequence[Any]] = {
            "tokens": [c.tokens for _, c, _ in pieces],
            "start": [c.start for _, c, _ in pieces],
            "end": [c.end for _, c, _ in pieces],
            "document_length": [len(p.text) for p, _, _ in pieces],
            "exact": [p.text[c.start : c.end] == c.text for p, c, _ in pieces],
            "text": [c.text for _, c, _ in pieces],
            "dimension": [len(v) for _, _, v in pieces],
            "finite": [bool(np.isfinite(v).all()) for v in matrix],
            "norm": np.nan_to_num(np.linalg.norm(matrix, axis=1), nan=0.0).tolist(),
        }
        limits = chunk_rules(max_tokens=self._context.collection.chunking.max_tokens, dimension=self._target.dimension)
        verdict = validate("chunks", limits, columns, [f"{p.item.uri}#{c.ordinal}" for p, c, _ in pieces])
        failures: dict[int, Failure] = {}
        for position, failure in sorted(verdict.failures.items()):
            failures.setdefault(owners[position].item.document_id, failure)
        return failures, verdict.result, len(pieces)

    def _store(
        self,
        connection: Connection,
        prepared: Sequence[_Prepared],
        vectors: Mapping[UUID, NDArray[np.float32]],
        embedded: Mapping[UUID, str],
        verdict: tuple[dict[int, Failure], Mapping[str, Any], int],
    ) -> int:
        failures, result, evaluated = verdict
        good = [p for p in prepared if p.item.document_id not in failures]
        rows = [
            ChunkRow(p.item.document_id, c.ordinal, c.start, c.end, c.tokens, h, c.metadata, vectors[h])
            for p in good
            for c, h in zip(p.chunks, p.hashes, strict=True)
        ]
        chunks.write_documents(connection, self._target, {p.item.document_id: p.item.content_hash for p in good}, rows)
        quarantine.resolve_documents(connection, self._collection, [p.item.uri for p in good])
        self._refuse(connection, [p for p in prepared if p.item.document_id in failures], failures)
        reports.save_report(
            connection,
            self._run.id,
            "chunks",
            success=not failures,
            evaluated=evaluated,
            rejected=len(failures),
            result=result,
        )
        by_uri = Counter(embedded.values())
        runs.save_outcomes(connection, [(len(p.chunks), by_uri[p.item.uri], p.item.run_id, p.item.uri) for p in good])
        runs.add_counts(connection, self._run.id, embedded=len(embedded), reused=len(rows) - len(embedded) if rows else 0)
        return len(good)

    def _refuse(self, connection: Connection, refused: Sequence[_Prepared], failures: Mapping[int, Failure]) -> None:
        if not refused:
            return
        documents.reject_content(connection, {p.item.document_id: p.item.content_hash for p in refused})
        owners = documents.owners(connection, self._collection, [p.item.uri for p in refused])
        rows = []
        for p in refused:
            failure = failures[p.item.document_id]
            rows.append(
                Refusal(
                    owners.get(p.item.uri, p.item.uri),
                    p.item.uri,
                    "",
                    "chunk",
                    failure.rule,
                    f"a chunk {failure.detail}",
                    p.item.content_hash,
                )
            )
        quarantine.save_refusals(connection, self._collection, self._run.id, rows)
        logger.warning("quarantined %d documents whose chunks failed validation", len(refused))

    def _stop_if_too_many(self) -> None:
        """Do not go on embedding what the gate will stop anyway."""
        with self._context.pool.connection() as connection:
            rejected = quarantine.count_open(connection, self._collection)[1]
            accepted = changes.awaiting_publication(connection, self._target)
            try:
                check_rejections(rejected, accepted, self._context.collection.validation)
            except BadData as error:
                runs.finish_run(connection, self._run.id, "failed", str(error))
                connection.commit()
                raise


def canary_drift(before: NDArray[np.float32], now: NDArray[np.float32]) -> float:
    """Largest cosine distance between stored and new canary vectors; ``before`` is flattened."""
    stored = before.reshape(now.shape)
    return float(np.max(1.0 - np.sum(stored * now, axis=1)))

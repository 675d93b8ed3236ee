"""What indexing costs without any bookkeeping: read, cut, embed, COPY, build HNSW; run in a process of its own.

The same chunker, embedder, vector type and HNSW parameters as Ragworks in the same run; one process, one connection; no
keys, no checks, no second run. The rows: document, ordinal, span, text, embedding.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import psycopg
from pgvector import HalfVector
from pgvector.psycopg import register_vector

from bench.workload.fake import DIMENSION, hash_vectors, minilm_tokenizer
from bench.workload.process import peak_memory
from include.collection_file import Chunking, Collection
from include.indexing.chunking import chunk_document
from include.sources import open_source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.indexing.chunking import Chunk

BATCH = 2000  # documents in memory at a time


def run(url: str, collection: Collection) -> dict[str, Any]:
    """Index the collection's source into a table of its own; seconds by part."""
    tokenizer = minilm_tokenizer()
    tokenizer.encode("warm")
    seconds = dict.fromkeys(("read", "chunk", "embed", "copy", "hnsw"), 0.0)
    started, cpu = time.monotonic(), time.process_time()
    chunks = 0
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create extension if not exists vector")
        register_vector(connection)
        connection.execute(
            "create table bare (document text, ordinal int, start_char int, end_char int, text text,"
            f" embedding halfvec({DIMENSION}))"
        )
        for batch in _batches(collection, seconds):
            rows = _cut(batch, tokenizer, collection.chunking, seconds)
            _copy(connection, rows, seconds)
            chunks += len(rows)
        mark = time.monotonic()
        index = collection.index
        connection.execute("set maintenance_work_mem = '512MB'")
        connection.execute(
            "create index on bare using hnsw (embedding halfvec_cosine_ops)"
            f" with (m = {index.m}, ef_construction = {index.ef_construction})"
        )
        seconds["hnsw"] = time.monotonic() - mark
        row = connection.execute("select pg_total_relation_size('bare')").fetchone()
    parts = {name: round(value, 2) for name, value in seconds.items()}
    total = round(time.monotonic() - started, 2)
    size, cpu = int(row[0]) if row else 0, round(time.process_time() - cpu, 2)
    return {
        "seconds": total,
        "cpu_seconds": cpu,
        "parts": parts,
        "chunks": chunks,
        "bytes_per_chunk": round(size / max(1, chunks)),
    }


def _batches(collection: Collection, seconds: dict[str, float]) -> Iterator[list[tuple[str, str]]]:
    batch: list[tuple[str, str]] = []
    mark = time.monotonic()
    source = open_source(collection)
    for found in source.listing():
        for document in source.read(found):
            batch.append((document.uri, document.text))
            if len(batch) == BATCH:
                seconds["read"] += time.monotonic() - mark
                yield batch
                batch, mark = [], time.monotonic()
    seconds["read"] += time.monotonic() - mark
    yield batch


def _cut(
    batch: list[tuple[str, str]], tokenizer: Any, settings: Chunking, seconds: dict[str, float]
) -> list[tuple[str, Chunk]]:
    mark = time.monotonic()
    rows = [(uri, chunk) for uri, text in batch for chunk in chunk_document(text, tokenizer, settings)]
    seconds["chunk"] += time.monotonic() - mark
    return rows


def _copy(connection: psycopg.Connection[Any], rows: list[tuple[str, Chunk]], seconds: dict[str, float]) -> None:
    if not rows:
        return
    mark = time.monotonic()
    vectors = hash_vectors([chunk.text for _, chunk in rows])
    seconds["embed"] += time.monotonic() - mark
    mark = time.monotonic()
    with connection.cursor() as cursor, cursor.copy("copy bare from stdin with (format binary)") as copy:
        copy.set_types(["text", "int4", "int4", "int4", "text", "halfvec"])
        for (uri, chunk), vector in zip(rows, vectors, strict=True):
            copy.write_row((uri, chunk.ordinal, chunk.start, chunk.end, chunk.text, HalfVector(vector)))
    seconds["copy"] += time.monotonic() - mark


def main() -> None:
    """``python -m bench.workload.bare '{"url": …, "collection": {…}}'``: print one JSON object."""
    arguments = json.loads(sys.argv[1])
    result = run(arguments["url"], Collection.model_validate(arguments["collection"]))
    print(json.dumps(result | {"peak_bytes": peak_memory()}))


if __name__ == "__main__":
    main()

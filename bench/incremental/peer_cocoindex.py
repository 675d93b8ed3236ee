"""CocoIndex: local files, a memoised function a file, and its Postgres target with HNSW."""

# No `from __future__ import annotations`: the library reads the types of the row and of the functions.
import os
import pathlib
import warnings
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

os.environ["COCOINDEX_DISABLE_USAGE_TRACKING"] = "1"  # it calls home when it is imported

import asyncpg
import cocoindex as coco
import numpy as np
import psycopg
from cocoindex.connectors import localfs, postgres
from cocoindex.resources import schema
from cocoindex.resources.file import FileLike, PatternFilePathMatcher
from cocoindex.resources.id import IdGenerator
from numpy.typing import NDArray

from bench.incremental.peer import CountingEmbedder, Job, measured, split
from bench.workload.fake import DIMENSION

TABLE = "cocoindex_chunks"
JOB = Job.from_command_line()
EMBEDDER = CountingEmbedder(JOB)


class _Embedding(schema.VectorSchemaProvider):
    @coco.fn.as_async(batching=True, runner=coco.GPU, max_batch_size=64)
    def _batch(self, texts: list[str]) -> list[NDArray[np.float32]]:
        return list(EMBEDDER.encode(list(texts)))

    @coco.fn(memo=True, version=1, logic_tracking="self")
    async def embed(self, text: str) -> NDArray[np.float32]:
        made: NDArray[np.float32] = await self._batch(text)
        return made

    async def __coco_vector_schema__(self) -> schema.VectorSchema:
        return schema.VectorSchema(dtype=np.dtype(np.float32), size=DIMENSION)

    def __coco_memo_key__(self) -> str:
        return JOB.embedder


DATABASE = coco.ContextKey[asyncpg.Pool]("database")
EMBEDDING = coco.ContextKey[_Embedding]("embedding")


@coco.lifespan
async def _lifespan(builder: coco.EnvironmentBuilder) -> AsyncIterator[None]:
    JOB.state.mkdir(parents=True, exist_ok=True)
    builder.settings.db_path = JOB.state / "cocoindex"
    async with asyncpg.create_pool(JOB.url) as pool:
        builder.provide(DATABASE, pool)
        builder.provide(EMBEDDING, _Embedding())
        yield


@dataclass
class Row:
    """A chunk."""

    id: int
    path: str
    text: str
    embedding: Annotated[NDArray, EMBEDDING]


@coco.fn
async def process_chunk(text: str, path: str, ids: IdGenerator, table: postgres.TableTarget[Row]) -> None:
    """Declare one row."""
    vector = await coco.use_context(EMBEDDING).embed(text)
    table.declare_row(row=Row(id=await ids.next_id(text), path=path, text=text, embedding=vector))


@coco.fn(memo=True)
async def process_file(file: FileLike, max_tokens: int, table: postgres.TableTarget[Row]) -> None:
    """Declare a file's rows; the chunk size is an argument, so that a memo of another size does not count."""
    text, ids = await file.read_text(), IdGenerator()
    path = pathlib.Path(file.file_path.path).relative_to(JOB.documents).as_posix()
    await coco.map(process_chunk, split(text, max_tokens), path, ids, table)


@coco.fn
async def app_main(source: pathlib.Path, max_tokens: int) -> None:
    """Declare the table and a component for each file."""
    keys: dict[str, Any] = {"primary_key": ["id"]}
    layout = await postgres.TableSchema.from_class(Row, **keys)
    table = await postgres.mount_table_target(DATABASE, table_name=TABLE, table_schema=layout)
    table.declare_vector_index(column="embedding", metric="cosine", method="hnsw")
    matcher = PatternFilePathMatcher(included_patterns=["**/*.md"])
    files = localfs.walk_dir(source, recursive=True, path_matcher=matcher)
    await coco.mount_each(process_file, files.items(), max_tokens, table)


app = coco.App(coco.AppConfig(name="Bench"), app_main, source=JOB.documents, max_tokens=JOB.max_tokens)


def main() -> None:
    """Bring the table in step with the folder."""
    warnings.filterwarnings("ignore")
    with psycopg.connect(JOB.url, autocommit=True) as connection:
        connection.execute("create extension if not exists vector")
    with measured(EMBEDDER):
        app.update_blocking()


if __name__ == "__main__":
    main()

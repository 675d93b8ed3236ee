"""LangChain: ``index(cleanup="full")`` with SQLRecordManager and langchain-postgres' PGVectorStore with HNSW."""

from __future__ import annotations

import warnings

import psycopg
from langchain_classic.indexes import SQLRecordManager
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.indexing import index
from langchain_postgres import Column, PGEngine, PGVectorStore
from langchain_postgres.v2.indexes import HNSWIndex

from bench.incremental.peer import CountingEmbedder, Job, measured, read_documents, split
from bench.workload.fake import DIMENSION

TABLE = "langchain_chunks"


class _Embeddings(Embeddings):
    def __init__(self, embedder: CountingEmbedder) -> None:
        self._embedder = embedder

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = self._embedder.encode(texts).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


def main() -> None:
    """Bring the table in step with the folder."""
    warnings.filterwarnings("ignore")
    job = Job.from_command_line()
    embedder = CountingEmbedder(job)
    with psycopg.connect(job.url, autocommit=True) as connection:
        connection.execute("create extension if not exists vector")
        row = connection.execute("select to_regclass(%s)", (TABLE,)).fetchone()
    fresh = row == (None,)
    url = job.url.replace("postgresql://", "postgresql+psycopg://")
    with measured(embedder):
        engine = PGEngine.from_connection_string(url=url)
        if fresh:
            key = Column("langchain_id", "TEXT", nullable=False)  # ids of index() are hashes, not uuids
            engine.init_vectorstore_table(table_name=TABLE, vector_size=DIMENSION, id_column=key)
        store = PGVectorStore.create_sync(engine=engine, table_name=TABLE, embedding_service=_Embeddings(embedder))
        records = SQLRecordManager(TABLE, db_url=url)
        if fresh:
            records.create_schema()
        documents = (
            Document(page_content=chunk, metadata={"source": path})
            for path, text in read_documents(job.documents)
            for chunk in split(text, job.max_tokens)
        )
        index(documents, records, store, cleanup="full", source_id_key="source", key_encoder="sha256", batch_size=100)
        if fresh:
            store.apply_vector_index(HNSWIndex(m=16, ef_construction=64))


if __name__ == "__main__":
    main()

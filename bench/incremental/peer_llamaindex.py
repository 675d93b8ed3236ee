"""LlamaIndex: IngestionPipeline with docstore strategy UPSERTS_AND_DELETE, kept on disk, and PGVectorStore with HNSW."""

from __future__ import annotations

import warnings
from typing import Any

import psycopg
from llama_index.core import Document
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.node_parser.interface import TextSplitter
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.vector_stores.postgres import PGVectorStore
from psycopg.conninfo import conninfo_to_dict
from pydantic import PrivateAttr

from bench.incremental.peer import CPU_BATCH, CountingEmbedder, Job, measured, read_documents, split, written
from bench.workload.fake import DIMENSION

TABLE = "llamaindex_chunks"  # the library puts data_ before it


class _Embedding(BaseEmbedding):
    _embedder: CountingEmbedder = PrivateAttr()

    def __init__(self, embedder: CountingEmbedder, **options: Any) -> None:
        super().__init__(**options)
        self._embedder = embedder

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = self._embedder.encode(texts).tolist()
        return vectors

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


class _Splitter(TextSplitter):
    max_tokens: int

    def split_text(self, text: str) -> list[str]:
        return split(text, self.max_tokens)


def main() -> None:
    """Bring the table in step with the folder."""
    warnings.filterwarnings("ignore")
    job = Job.from_command_line()
    embedder = CountingEmbedder(job)
    with psycopg.connect(job.url, autocommit=True) as connection:
        connection.execute("create extension if not exists vector")
    with measured(embedder):
        splitter = _Splitter(max_tokens=job.max_tokens, include_prev_next_rel=False)
        pipeline = IngestionPipeline(
            transformations=[splitter, _Embedding(embedder, embed_batch_size=CPU_BATCH * 4)],
            vector_store=_store(job.url),
            docstore=SimpleDocumentStore(),
            docstore_strategy=DocstoreStrategy.UPSERTS_AND_DELETE,
            disable_cache=True,
        )
        if (job.state / "docstore.json").exists():
            pipeline.load(str(job.state))
        pipeline.run(documents=[_document(path, text) for path, text in read_documents(job.documents)])
        written(job)
        job.state.mkdir(parents=True, exist_ok=True)
        pipeline.persist(str(job.state))


def _store(url: str) -> PGVectorStore:
    parts = conninfo_to_dict(url)
    hnsw = {"hnsw_m": 16, "hnsw_ef_construction": 64, "hnsw_ef_search": 40, "hnsw_dist_method": "vector_cosine_ops"}
    return PGVectorStore.from_params(
        host=parts["host"],
        port=str(parts["port"]),
        user=parts["user"],
        password=parts["password"],
        database=parts["dbname"],
        table_name=TABLE,
        embed_dim=DIMENSION,
        hnsw_kwargs=hnsw,
    )


def _document(path: str, text: str) -> Document:
    """Its metadata stays out of the embedded text: the library puts it in unless told not to."""
    hidden = ["path"]
    return Document(
        text=text, id_=path, metadata={"path": path}, excluded_embed_metadata_keys=hidden, excluded_llm_metadata_keys=hidden
    )


if __name__ == "__main__":
    main()

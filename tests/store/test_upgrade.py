"""A database of the first release is brought up to date, and its index answers as before."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import psycopg
import pytest
from pgvector.psycopg import register_vector
from psycopg import sql

from include.lexical.bm25 import recorded
from include.retrieval.query import Query
from include.retrieval.searcher import Searcher
from include.store.migrate import SCHEMA
from include.store.pool import open_pool
from include.store.word_column import as_column
from tests.support import HashEmbedder, assert_same_index, export, index, query

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from include.config import Settings

# How the first release laid out its chunk tables, made from the present ones.
FIRST_LAYOUT = (
    "create table old (document_id bigint not null, ordinal int not null, start_char int not null, end_char int not null,"
    " tokens int not null, text_hash uuid not null, metadata jsonb, embedding halfvec(64) not null) with (fillfactor = 95)",
    "insert into old select c.document_id, s.ordinal, s.start_char, s.end_char, c.tokens, c.text_hash, s.metadata, c.embedding"
    " from ragworks.chunks_1 c join ragworks.spans_1 s using (document_id, seq)",
    "drop table ragworks.chunks_1, ragworks.spans_1",
    "alter table old set schema ragworks",
    "alter table ragworks.old rename to chunks_1",
    "create index on ragworks.chunks_1 (document_id)",
    "create index on ragworks.chunks_1 (text_hash)",
    "create index chunks_1_hnsw on ragworks.chunks_1 using hnsw (embedding halfvec_cosine_ops)",
    "drop table ragworks.embedding_rate, ragworks.golden_span, ragworks.golden_query, ragworks.forgotten",
    "drop function ragworks.changes",
    "drop view ragworks.earlier_version",
    "alter table ragworks.rejection drop column again, drop column earlier_hash",
    "alter table ragworks.document_text drop column signature",
    "alter table ragworks.collection drop column held_spec, drop column scrub",
    "alter table ragworks.run drop column estimate, drop column reads, drop column tokens, drop column scrubbed",
    "alter table ragworks.source_object drop column attempts",
    "alter table ragworks.work_item drop column attempts",
    "alter table ragworks.quarantine drop column retry_at",
    "alter table ragworks.generation drop column gate, drop column packed",
    "update ragworks.generation set spec = spec - 'lexical', spec_hash = 'of the first release'",
    "alter table ragworks.staged_1 drop column lexical",
    "alter table ragworks.generation_document drop column run_id",
    "drop index ragworks.generation_document_restricted",
    "drop table ragworks.terms_1, ragworks.answer_source, ragworks.answer, ragworks.feedback, ragworks.shadow",
    "drop table ragworks.query_log",
    "drop table ragworks.api_key, ragworks.evaluation, ragworks.reranking_rate",
    "drop table ragworks.told, ragworks.alert, ragworks.monitor_threshold, ragworks.monitor_reference",
    "drop table ragworks.decision, ragworks.breach, ragworks.signal",
    "drop table ragworks.deployment, ragworks.model_version, ragworks.model_run, ragworks.dataset_document",
    "drop table ragworks.dataset_conversation, ragworks.dataset_negative, ragworks.dataset_row, ragworks.dataset",
    "delete from ragworks.migration where name <> 'incremental/0001_initial.sql'",
)


def test_the_first_release(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    collection()
    for number in range(20):
        (documents / f"{number}.md").write_text("".join(f"# Part {i}\n\nText {i} of page {number}.\n\n" for i in range(9)))
    index(settings, "handbook", embedder=HashEmbedder())
    before = export(settings, "handbook")
    with psycopg.connect(settings.database_url or "", autocommit=True) as connection:
        for statement in FIRST_LAYOUT:
            connection.execute(sql.SQL(statement))  # type: ignore[arg-type]
    assert_same_index(export(settings, "handbook"), before)
    with open_pool(settings) as pool:  # before its first run with this release: by meaning alone
        found = Searcher(settings, pool, "handbook", embedder=HashEmbedder()).find(Query("part 3"))
        assert (found.passport["mode"], len(found.hits)) == ("dense", 10)
    again = index(settings, "handbook", embedder=HashEmbedder())  # a new generation with words, of the same vectors
    assert (again["chunks"]["embedded"], again["generation"]) == (0, 2)
    with open_pool(settings) as pool:
        found = Searcher(settings, pool, "handbook", embedder=HashEmbedder()).find(Query("text 3 of page 12", mode="lexical"))
        assert found.hits[0].document == "12.md"
    page = documents / "7.md"
    page.write_text("On top.\n\n" + page.read_text())
    index(settings, "handbook", embedder=HashEmbedder())
    collection("scratch")
    index(settings, "scratch", embedder=HashEmbedder())
    assert_same_index(export(settings, "handbook"), export(settings, "scratch"))
    assert query(settings, "select count(*) > 0 from ragworks.document_text where signature is null") == [(False,)]


def test_words_as_a_sparsevec(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    """A generation of before packed words is searched, edited and counted as it is; the next one packs them."""
    collection()
    for number in range(20):
        (documents / f"{number}.md").write_text(f"# Page {number}\n\n" + "word " * (number + 1) + f"and item{number % 7}")
    index(settings, "handbook", embedder=HashEmbedder())
    packed = _found(settings)
    _unpack(settings)
    assert query(settings, "select packed from ragworks.generation") == [(False,)]
    assert _found(settings) == pytest.approx(packed, rel=1e-5)
    (documents / "3.md").write_text("Now item5 and word are here.")
    (documents / "4.md").unlink()
    assert index(settings, "handbook", embedder=HashEmbedder())["generation"] == 1
    edited = _found(settings)
    assert edited.keys() == packed.keys() - {"4.md"}
    counted = (
        "select term, count(*) from ragworks.chunks_1, unnest(ragworks.terms(lexical) || 0) term group by term order by term"
    )
    assert query(settings, "select term, chunks from ragworks.terms_1 order by term") == query(settings, counted)
    rebuilt = index(settings, "handbook", embedder=HashEmbedder(), mode="rebuild")
    assert query(settings, f"select packed from ragworks.generation where id = {rebuilt['generation']}") == [(True,)]
    assert _found(settings) == pytest.approx(edited, rel=1e-5)


def _found(settings: Settings) -> dict[str, float]:
    with open_pool(settings) as pool:
        searcher = Searcher(settings, pool, "handbook", embedder=HashEmbedder())
        hits = searcher.find(Query("word of page and item5", mode="lexical", top_k=50)).hits
    return {hit.document: hit.score for hit in hits}


def _unpack(settings: Settings) -> None:
    """Lay generation 1 out as releases before packed words did."""
    spec = query(settings, "select spec from ragworks.generation")[0][0]
    bm25 = recorded(spec)
    assert bm25 is not None
    texts = {row["document"]: row["text"] for row in export(settings, "handbook")}
    with psycopg.connect(settings.database_url or "") as connection:
        register_vector(connection)
        for table in ("chunks_1", "staged_1"):
            connection.execute(f"alter table ragworks.{table} drop column lexical")
            connection.execute(f"alter table ragworks.{table} add column lexical sparsevec")
        for id_, uri in connection.execute("select id, uri from ragworks.document").fetchall():
            weights = as_column(bm25.chunk(texts[uri]))
            connection.execute("update ragworks.chunks_1 set lexical = %s where document_id = %s", (weights, id_))
        connection.execute("create index chunks_1_terms on ragworks.chunks_1 using gin (ragworks.terms(lexical))")
        connection.execute("alter table ragworks.generation drop column packed")
        connection.execute("delete from ragworks.migration where name ~ '0009|idempotent'")


def test_shipped_migrations_are_as_they_were() -> None:
    """Frozen: a change is a new file."""
    shipped = {"0001_initial.sql": "57e334c7b3118ccb568316193808cd0fdfef58713a16adc9b02fc54f2ed17165"}
    for name, digest in shipped.items():
        assert hashlib.sha256((SCHEMA / "incremental" / name).read_bytes()).hexdigest() == digest

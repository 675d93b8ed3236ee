"""No table is forgotten: every column that could hold a document is erased by the registry, or exempt with a reason."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from include.store.traces import ALL, CHUNK_TABLES, TRACES
from tests.support import HashEmbedder, index, query

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from include.config import Settings

# Numbers, times and booleans cannot hold a document; everything else must be accounted for.
_CAN_HOLD = "data_type not in ('integer', 'bigint', 'smallint', 'real', 'double precision', 'numeric', 'boolean')"
_NOT_TIMES = "data_type not like 'timestamp%%'"

EXEMPT = {
    "answer.id": "random",
    "answer.flags": "words of docs/answers.md",
    "collection.*": "settings of the collection",
    "migration.*": "files of the schema",
    "embedding_rate.*": "machines and models",
    "reranking_rate.*": "machines and models",
    "forgotten.uri_hash": "the hash by which it is kept out",
    "forgotten.reason": "what a person wrote about the erasure; the command's help says to name nobody",
    "source_object.*": "files that hold other documents stay; a file that is the document goes",
    "api_key.*": "who may ask; the hash of a key",
    "query_log.id": "random",
    "query_log.kind": "one of three words",
    "query_log.embedding": "of a question",
    "query_log.status": "one of five words",
    "query_log.seconds": "times by step",
    "feedback.id": "random",
    "feedback.query_id": "random",
    "feedback.state": "one of three words",
    "feedback.purpose": "one of two words",
    "feedback.reviewed_by": "who reviewed it",
    "feedback.wrong": "numbers of results",
    "shadow.query_id": "random",
    "shadow.error": "the name of an exception's class",
    "document.state": "one of three words",
    "generation.spec": "settings",
    "generation.spec_hash": "settings",
    "generation.embedder": "a model",
    "generation.storage": "settings",
    "generation.state": "one of five words",
    "generation.canary": "vectors of fixed strings",
    "golden_query.origin": "one of three words",
    "dataset.name": "a name that a person gave",
    "dataset.content_hash": "a hash of all rows together",
    "dataset.origin": "one of six words",
    "dataset.state": "one of two words",
    "dataset.kind": "one of three words",
    "dataset_document.uri_hash": "the hash by which models trained on it are named",
    "model_run.run_key": "a name that the scheduler or the command line gave",
    "model_run.family": "one of three words",
    "model_run.work_hash": "a hash of data, arguments and base together",
    "model_run.state": "one of eight words",
    "model_run.base": "a model",
    "model_run.base_fingerprint": "a model",
    "model_run.code_version": "a hash of the code",
    "model_run.checkpoint": "a place below RAGWORKS_ARTIFACTS, named by the run",
    "model_run.artifact": "a place below RAGWORKS_ARTIFACTS, named by the model",
    "model_run.fingerprint": "a model",
    "model_version.*": "numbers of models",
    "deployment.environment": "one of three words",
    "deployment.family": "one of three words",
    "deployment.action": "one of two words",
    "deployment.state": "one of four words",
    "deployment.actor": "who promoted it",
    "signal.name": "one of the words of include/monitoring/catalogue.py",
    "signal.state": "one of three words",
    "signal.run_key": "a name that the scheduler or the command line gave",
    "breach.signal": "a signal's name",
    "breach.run_key": "a name that the scheduler or the command line gave",
    "decision.environment": "one of three words",
    "decision.action": "one of eight words",
    "decision.family": "one of three words",
    "decision.mode": "one of three words",
    "decision.state": "one of six words",
    "decision.breaches": "numbers",
    "decision.monitor_key": "a name that the scheduler or the command line gave",
    "decision.run_key": "a name that the scheduler or the command line gave",
    "decision.claimed_by": "a worker",
    "decision.actor": "who approved it",
    "monitor_reference.*": "times, and who said so",
    "monitor_threshold.*": "numbers by signal",
    "alert.environment": "one of three words",
    "alert.source": "one of three words",
    "alert.key": "the name of an occurrence at its source",
    "alert.state": "one of two words",
    "alert.family": "one of three words",
    "alert.run_key": "a name that the scheduler or the command line gave",
    "told.*": "numbers of breaches and decisions",
    "run.key": "a name that the scheduler or the command line gave",
    "run.mode": "one of three words",
    "run.state": "one of four words",
    "run.seconds": "times by step",
    "run.estimate": "numbers",
    "run.reads": "numbers by reason",
    "run.scrubbed": "numbers by kind",
    "run_document.action": "one of six words",
    "quarantine.stage": "one of two words",
    "quarantine.expectation": "a rule's name",
    "validation_report.suite": "one of two words",
}  # fmt: skip


def test_every_column_is_accounted_for(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    (documents / "a.md").write_text("A page.")
    index(settings, collection(), embedder=HashEmbedder())
    columns = query(
        settings,
        "select c.table_name, c.column_name from information_schema.columns c join information_schema.tables t"
        " using (table_schema, table_name) where table_schema = 'ragworks' and t.table_type = 'BASE TABLE'"
        f" and {_CAN_HOLD} and {_NOT_TIMES}",
    )
    assert len(columns) > 40
    erased = {f"{trace.table}.{column}" for trace in TRACES for column in trace.columns}
    chunk_table = re.compile(rf"({'|'.join(CHUNK_TABLES)})_\d+")
    missing = [
        f"{table}.{column}"
        for table, column in columns
        if not chunk_table.fullmatch(table) and not {f"{table}.{column}", f"{table}.{ALL[0]}"} & (erased | EXEMPT.keys())
    ]
    assert not missing, (
        f"{missing}: can a document be in there? Then include/store/traces.py must take it out when it is forgotten;"
        " if not, say why in EXEMPT"
    )


def test_the_registry_names_what_exists(settings: Settings) -> None:
    columns = {
        f"{table}.{column}"
        for table, column in query(
            settings, "select table_name, column_name from information_schema.columns where table_schema = 'ragworks'"
        )
    } | {f"{table}.*" for (table,) in query(settings, "select tablename from pg_tables where schemaname = 'ragworks'")}
    assert {f"{trace.table}.{column}" for trace in TRACES for column in trace.columns} <= columns
    assert set(EXEMPT) <= columns

"""Texts of documents that stand outside of the index: scrubbed afterwards, when a collection begins to take more out.

Words of people stay as ``query_log`` and ``guardrails`` keep them: the questions of the log, of answers and of golden queries.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql
from psycopg.types.json import Jsonb

if TYPE_CHECKING:
    from collections.abc import Callable

    from include.store.pool import Connection

BATCH = 500  # rows held at once

# Their values say which thing is meant, are compared with others, and are no texts of documents.
_IDENTITIES = frozenset({
    "adapter", "alternatives", "artifact", "base", "challenger_model", "collection", "configuration", "dataset", "document",
    "documents", "embedder", "environment", "family", "fingerprint", "hardware", "llm", "passport", "prompt", "query_hash",
    "query_hashes", "reranker", "rule", "run_key", "served_reranker", "serving", "uri", "writer",
})  # fmt: skip
_CUT = (160, 200, 300)  # characters at which reports and quotes cut a text
_TAIL = 64  # characters at the end of a cut text that may be the beginning of a value, which no pattern knows


@dataclass(frozen=True, slots=True)
class _Held:
    table: str
    columns: tuple[str, ...]
    of_collection: str


_ASKED = "(select id from ragworks.query_log where collection_id = %(c)s)"
_DATASETS = "(select id from ragworks.dataset where collection_id = %(c)s)"
_RUNS = "(select id from ragworks.run where collection_id = %(c)s)"

_HELD = (
    _Held("answer", ("text", "citations"), f"id in {_ASKED}"),
    _Held("answer_source", ("text",), f"answer_id in {_ASKED}"),
    _Held("feedback", ("answer", "comment"), f"query_id in {_ASKED}"),
    _Held("golden_query", ("answer",), "collection_id = %(c)s"),
    _Held("golden_span", ("quote",), "golden_query_id in (select id from ragworks.golden_query where collection_id = %(c)s)"),
    _Held("evaluation", ("report",), "collection_id = %(c)s"),
    _Held("generation", ("gate",), "collection_id = %(c)s"),
    _Held("model_run", ("baseline", "evaluation", "gate", "error"), "collection_id = %(c)s"),
    _Held("deployment", ("verification", "reason"), "collection_id = %(c)s"),
    _Held("run", ("error",), "collection_id = %(c)s"),
    _Held("validation_report", ("result",), f"run_id in {_RUNS}"),
    _Held("dataset", ("statistics", "checks"), "collection_id = %(c)s"),
)

_OF_DATASETS = (
    _Held("dataset_row", ("query", "positive", "metadata"), f"dataset_id in {_DATASETS}"),
    _Held("dataset_negative", ("text",), f"row_id in (select id from ragworks.dataset_row where dataset_id in {_DATASETS})"),
    _Held("dataset_conversation", ("messages", "rejected", "expected", "metadata"), f"dataset_id in {_DATASETS}"),
)


def rewrite(connection: Connection, collection: int, clean: Callable[[str], str]) -> dict[str, int]:
    """Scrub what is kept of a collection's documents beside the index, in the caller's transaction.

    A dataset whose rows change becomes another one: it gets another content hash, so that no training on the raw rows passes
    for the same work. The models that were trained on them stay.

    :param clean: a text without the personal data.
    :return: rows rewritten, by table; tables without any are left out.
    """
    # As `forget` does: who is writing a dataset is waited for.
    connection.execute("select from ragworks.generation where collection_id = %s order by id for no key update", (collection,))
    rows = Counter({held.table: len(_rewrite(connection, collection, held, clean)) for held in _HELD})
    changed: set[int] = set()
    for held in _OF_DATASETS:
        found = _rewrite(connection, collection, held, clean)
        rows[held.table] += len(found)
        changed.update(found)
    connection.execute(
        "update ragworks.dataset set content_hash = left(encode(sha256(('scrubbed ' || content_hash)::bytea), 'hex'), 32),"
        " statistics = statistics || '{\"scrubbed\": true}' where id = any(%s)",
        (sorted(changed),),
    )
    return {table: count for table, count in sorted(rows.items()) if count}


def _rewrite(connection: Connection, collection: int, held: _Held, clean: Callable[[str], str]) -> list[int]:
    """Rewrites the rows of one table; returns for each the dataset that it is of, or 0."""
    table, columns = sql.Identifier("ragworks", held.table), [sql.Identifier(name) for name in held.columns]
    owner = {
        "dataset_row": "dataset_id", "dataset_conversation": "dataset_id",
        "dataset_negative": "(select r.dataset_id from ragworks.dataset_row r where r.id = row_id)",
    }.get(held.table, "0")  # fmt: skip
    selected = sql.SQL("select ctid::text, {}, {} from {} where {} for no key update").format(
        sql.SQL(owner), sql.SQL(", ").join(columns), table, sql.SQL(held.of_collection)
    )
    updated = sql.SQL("update {} set {} where ctid = %s::tid").format(
        table, sql.SQL(", ").join(sql.SQL("{} = %s").format(column) for column in columns)
    )
    owners: list[int] = []
    with connection.cursor(name="raw_texts") as cursor, connection.cursor() as writer:
        cursor.execute(selected, {"c": collection})
        while batch := cursor.fetchmany(BATCH):
            for ctid, dataset, *values in batch:
                cleaned = [_cleaned(value, clean) for value in values]
                if cleaned != values:
                    writer.execute(updated, (*map(_stored, cleaned), ctid))
                    owners.append(int(dataset))
    return owners


def _cleaned(value: Any, clean: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return _text(value, clean)
    if isinstance(value, list):
        return [_cleaned(one, clean) for one in value]
    if isinstance(value, dict):
        return {key: one if key in _IDENTITIES else _cleaned(one, clean) for key, one in value.items()}
    return value


def _text(text: str, clean: Callable[[str], str]) -> str:
    """Without personal data, and without the end of a text that was cut where the rest of a value could have stood."""
    cleaned = clean(text)
    if len(text) not in _CUT:
        return cleaned
    if any(sign.isdigit() or sign == "@" for sign in text[-_TAIL:]):
        return cleaned[:-_TAIL]
    return cleaned[: -len(cleaned[-_TAIL:].split()[-1])] if cleaned[-_TAIL:].strip() else cleaned


def _stored(value: Any) -> Any:
    return Jsonb(value) if isinstance(value, dict | list) else value

"""Where a document leaves traces: every table that can hold one, and how it is taken out.

A test compares this registry with the schema: a new table or column that could hold a document must be entered here, or
be exempted there with its reason.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql
from psycopg.types.json import Jsonb

from include.store import answers, evaluations, feedback, golden, trained
from include.store.naming import Name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from include.store.pool import Connection

ALL = ("*",)  # the rows go, whatever columns they have
CHUNK_TABLES = ("chunks", "spans", "staged")  # and _<generation>: their rows go by document id


@dataclass(frozen=True, slots=True)
class Target:
    """The document to erase, under one of its names.

    :param id: of the row of that name; None when the collection holds none.
    :param contents: hashes of every text of the document that some generation or the source's table still names.
    """

    collection: int
    uri: str
    id: int | None
    contents: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class Trace:
    """One table.

    :param columns: what ``erase`` takes the document out of.
    :param erase: in the caller's transaction; returns the rows removed or rewritten.
    """

    table: str
    columns: tuple[str, ...]
    erase: Callable[[Connection, Target], int]


def tables(connection: Connection, collection: int) -> list[str]:
    """Every table of which :data:`TRACES` and :func:`erase_chunks` take rows."""
    return [*(trace.table for trace in TRACES), *_chunk_tables(connection, collection)]


def find(connection: Connection, collection: int, uri: str) -> list[Target]:
    """What the collection holds of a document: under its name, and then under those that it had before."""
    found = [(name, _rows(connection, collection, name)) for name in (uri, *_earlier_names(connection, collection, uri))]
    contents = tuple(dict.fromkeys(content for _, rows in found for _, content in rows))
    return [Target(collection, name, rows[0][0] if rows else None, contents) for name, rows in found]


def _earlier_names(connection: Connection, collection: int, uri: str) -> list[str]:
    """What runs say that the document was called before, but for names that are another document's now."""
    rows = connection.execute(_EARLIER_NAMES, {"c": collection, "u": uri})
    return [str(row[0]) for row in rows]


def _rows(connection: Connection, collection: int, uri: str) -> list[tuple[int, UUID]]:
    """(id, content hash) of a name."""
    return connection.execute(
        "select d.id, d.content_hash from ragworks.document d where d.collection_id = %(c)s and d.uri = %(u)s union"
        " select d.id, g.content_hash from ragworks.document d join ragworks.generation_document g on g.document_id = d.id"
        " where d.collection_id = %(c)s and d.uri = %(u)s",
        {"c": collection, "u": uri},
    ).fetchall()


def sharing(connection: Connection, targets: Sequence[Target]) -> list[str]:
    """Other documents of the collection that have one of its texts, by uri."""
    rows = connection.execute(
        "select d.uri from ragworks.document d where d.collection_id = %(c)s and d.uri <> all(%(names)s) and"
        " (d.state <> 'deleted' and d.content_hash = any(%(contents)s) or exists (select from ragworks.generation_document g"
        "  where g.document_id = d.id and g.content_hash = any(%(contents)s))) order by d.uri",
        {
            "c": targets[0].collection,
            "names": [target.uri for target in targets],
            "contents": list(targets[0].contents),
        },
    )
    return [str(row[0]) for row in rows]


def erase_chunks(connection: Connection, target: Target) -> dict[str, int]:
    """Take its chunks out of every generation, whatever its state; rows by table."""
    statement = sql.SQL("delete from {} where document_id = %s")
    return {
        table: connection.execute(statement.format(sql.Identifier("ragworks", table)), (target.id,)).rowcount
        for table in _chunk_tables(connection, target.collection)
    }


def _chunk_tables(connection: Connection, collection: int) -> list[str]:
    rows = connection.execute(
        "select name || '_' || id from ragworks.generation, unnest(%s::text[]) as name where collection_id = %s"
        " and to_regclass('ragworks.' || name || '_' || id) is not null order by 1",
        (list(CHUNK_TABLES), collection),
    )
    return [str(row[0]) for row in rows]


def _delete(statement: str) -> Callable[[Connection, Target], int]:
    """Rows that a condition names, given id, collection and uri."""

    def erase(connection: Connection, target: Target) -> int:
        parameters = {"id": target.id, "c": target.collection, "u": target.uri}
        return connection.execute(sql.SQL(statement), parameters).rowcount

    return erase


def _rewrite(table: str, columns: Sequence[str], of_collection: str, before: str = "") -> Callable[[Connection, Target], int]:
    """Texts and JSON of rows about other things, which may name the document.

    :param of_collection: condition for the collection's rows.
    :param before: statement that removes the rows about the document itself.
    """
    identifiers = [sql.Identifier(column) for column in columns]
    mentioned = sql.SQL(" or ").join(
        sql.SQL("strpos({c}::text, %(u)s) > 0 or strpos({c}::text, %(escaped)s) > 0").format(c=c) for c in identifiers
    )
    found = sql.SQL("select ctid::text, {} from {} where {} and ({}) for no key update").format(
        sql.SQL(", ").join(identifiers), sql.Identifier("ragworks", table), sql.SQL(of_collection), mentioned
    )
    changed = sql.SQL("update {} set {} where ctid = %s::tid").format(
        sql.Identifier("ragworks", table), sql.SQL(", ").join(sql.SQL("{} = %s").format(c) for c in identifiers)
    )

    def erase(connection: Connection, target: Target) -> int:
        parameters = {"c": target.collection, "u": target.uri, "escaped": json.dumps(target.uri, ensure_ascii=False)[1:-1]}
        rows = connection.execute(sql.SQL(before), parameters).rowcount if before else 0
        name = Name(target.uri)
        with connection.cursor(name="traces") as cursor:
            cursor.execute(found, parameters)
            clean = [(row[0], [_without(name, value) for value in row[1:]]) for row in cursor if _names(name, row[1:])]
        for ctid, values in clean:
            rows += connection.execute(changed, (*values, ctid)).rowcount
        return rows

    return erase


def _names(name: Name, values: Sequence[Any]) -> bool:
    return any(value is not None and name.out_of_json(value) != value for value in values)


def _without(name: Name, value: Any) -> Any:
    if isinstance(value, dict | list):
        return Jsonb(name.out_of_json(value))
    return None if value is None else name.out_of_text(value)


def _erase_golden(connection: Connection, target: Target) -> int:
    return golden.forget_document(connection, target.collection, target.uri)


def _erase_evaluations(connection: Connection, target: Target) -> int:
    return evaluations.forget_document(connection, target.collection, target.uri)


def _erase_dataset_rows(connection: Connection, target: Target) -> int:
    rows = trained.forget_rows(connection, target.collection, target.uri, target.contents)
    return rows + _NAMED_IN_ROWS(connection, target)


def _erase_negatives(connection: Connection, target: Target) -> int:
    return trained.forget_negatives(connection, target.collection, target.uri, target.contents)


def _erase_conversations(connection: Connection, target: Target) -> int:
    return trained.forget_conversations(connection, target.collection, target.uri, target.contents)


def _erase_model_runs(connection: Connection, target: Target) -> int:
    return trained.forget_in_runs(connection, target.collection, target.uri)


def _erase_deployments(connection: Connection, target: Target) -> int:
    return trained.forget_in_deployments(connection, target.collection, target.uri)


def _erase_answers(connection: Connection, target: Target) -> int:
    rows = answers.forget_document(connection, target.collection, target.uri, target.contents)
    return rows + _NAMED_IN_ANSWERS(connection, target)


def _erase_sources(connection: Connection, target: Target) -> int:
    return answers.forget_sources(connection, target.collection, target.uri, target.contents)


def _erase_in_golden(connection: Connection, target: Target) -> int:
    return golden.forget_name(connection, target.collection, target.uri)


def _erase_feedback(connection: Connection, target: Target) -> int:
    rows = feedback.erase_feedback(connection, target.collection, target.uri, target.contents)
    return rows + _NAMED_IN_FEEDBACK(connection, target)


def _erase_text(connection: Connection, target: Target) -> int:
    """Texts that no document has any more: also those of versions that no run got to publish."""
    return connection.execute(
        "delete from ragworks.document_text t where collection_id = %(c)s and not exists"
        " (select from ragworks.document d where d.collection_id = %(c)s and d.content_hash = t.content_hash"
        "  and d.state <> 'deleted') and not exists"
        " (select from ragworks.generation_document g join ragworks.document d on d.id = g.document_id"
        "  where d.collection_id = %(c)s and g.content_hash = t.content_hash)",
        {"c": target.collection},
    ).rowcount


_IN_RUNS = "run_id in (select id from ragworks.run where collection_id = %(c)s)"

_NAMED_IN_ANSWERS = _rewrite(
    "answer", ("question", "text", "citations"), "id in (select id from ragworks.query_log where collection_id = %(c)s)"
)

_NAMED_IN_FEEDBACK = _rewrite(
    "feedback", ("answer", "comment"), "query_id in (select id from ragworks.query_log where collection_id = %(c)s)"
)

_NAMED_IN_ROWS = _rewrite(
    "dataset_row", ("query", "metadata"), "dataset_id in (select id from ragworks.dataset where collection_id = %(c)s)"
)

# The reason of a rename: 'moved from NAME', with more behind a semicolon, which may stand in a name too; only what was a
# document once is a name. Followed backwards in time: what a name was before it became another document's is not asked.
_EARLIER_NAMES = """
with recursive moved as materialized (
    select d.run_id, d.uri, name.earlier collate "C" as earlier
    from ragworks.run_document d join ragworks.run r on r.id = d.run_id
    cross join lateral string_to_array(substr(d.reason, length('moved from ') + 1), '; ') as part
    cross join lateral (select array_to_string(part[1:n], '; ') from generate_subscripts(part, 1) as n) as name (earlier)
    where r.collection_id = %(c)s and d.action = 'renamed' and starts_with(d.reason, 'moved from ')),
earlier (uri, run_id) as (
    select %(u)s::text collate "C", null::bigint
    union select m.earlier, m.run_id from earlier e
        join moved m on m.uri = e.uri and (e.run_id is null or m.run_id < e.run_id))
select distinct e.uri from earlier e where e.uri <> %(u)s
and exists (select from ragworks.run_document d join ragworks.run r on r.id = d.run_id
    where r.collection_id = %(c)s and d.uri = e.uri)
and not exists (select from ragworks.desired_document d where d.collection_id = %(c)s and d.uri = e.uri and d.wanted)
and not exists (select from ragworks.source_object o
    where o.collection_id = %(c)s and o.uri = e.uri and o.state = 'present')
order by e.uri
"""

# In this order, after what trainings hold: the queue before the document's row, as workers lock them the other way round only
# while forget keeps them out; texts last, when nothing names them any more.
TRACES: tuple[Trace, ...] = (
    # First: by the document's row one knows which names are still documents', by its texts what a renamed one said.
    Trace("dataset_negative", ALL, _erase_negatives),
    Trace("dataset_row", ALL, _erase_dataset_rows),
    Trace("dataset_conversation", ALL, _erase_conversations),
    Trace(
        "dataset",
        ("arguments", "statistics", "checks"),
        _rewrite("dataset", ("arguments", "statistics", "checks"), "collection_id = %(c)s"),
    ),
    Trace(
        "model_run",
        ("arguments", "baseline", "training", "evaluation", "gate", "hardware", "error"),
        _erase_model_runs,
    ),
    Trace("deployment", ("settings", "verification", "reason"), _erase_deployments),
    Trace("signal", ("reference", "detail"), _rewrite("signal", ("reference", "detail"), "collection_id = %(c)s")),
    Trace("breach", ("reason", "evidence"), _rewrite("breach", ("reason", "evidence"), "collection_id = %(c)s")),
    Trace(
        "decision",
        ("reason", "evidence", "outcome"),
        _rewrite("decision", ("reason", "evidence", "outcome"), "collection_id = %(c)s"),
    ),
    Trace(
        "alert",
        ("title", "detail", "outcome"),
        _rewrite("alert", ("title", "detail", "outcome"), "collection_id = %(c)s"),
    ),
    Trace("work_item", ALL, _delete("delete from ragworks.work_item where document_id = %(id)s")),
    # Its row stays, empty, until a publication collects it: another run that is queueing it now must find its id.
    Trace(
        "document",
        ("uri", "object_uri", "content_hash", "version_hash", "metadata", "acl"),
        _delete(
            "update ragworks.document set uri = 'forgotten:' || gen_random_uuid(), object_uri = '', metadata = '{}',"
            " content_hash = '00000000-0000-0000-0000-000000000000', version_hash = '00000000-0000-0000-0000-000000000000',"
            " acl = null, state = 'deleted', updated_at = now() where id = %(id)s"
        ),
    ),
    Trace("generation_document", ALL, _delete("delete from ragworks.generation_document where document_id = %(id)s")),
    Trace("rejection", ALL, _delete("delete from ragworks.rejection where document_id = %(id)s")),
    # Of a file that is one document, its row too: it has the same uri. One that holds other rows stays.
    Trace(
        "source_object",
        ALL,
        _delete(
            "delete from ragworks.source_object where collection_id = %(c)s and uri = %(u)s and not exists (select from"
            " ragworks.document d where d.collection_id = %(c)s and d.object_uri = %(u)s and d.state <> 'deleted')"
        ),
    ),
    Trace(
        "quarantine",
        ("object_uri", "uri", "locator", "detail"),
        _rewrite(
            "quarantine",
            ("detail",),
            "collection_id = %(c)s",
            "delete from ragworks.quarantine where collection_id = %(c)s"
            " and (uri = %(u)s or object_uri = %(u)s and starts_with(uri, %(u)s || '#'))",
        ),
    ),
    Trace(
        "run_document",
        ("uri", "reason"),
        _rewrite("run_document", ("reason",), _IN_RUNS, f"delete from ragworks.run_document where {_IN_RUNS} and uri = %(u)s"),
    ),
    Trace("run", ("plan", "error"), _rewrite("run", ("plan", "error"), "collection_id = %(c)s")),
    Trace("validation_report", ("result",), _rewrite("validation_report", ("result",), _IN_RUNS)),
    Trace("golden_span", ALL, _erase_golden),
    Trace("golden_query", ("query", "query_hash", "answer", "metadata"), _erase_in_golden),
    Trace("evaluation", ("name", "configuration", "report"), _erase_evaluations),
    # Before what it judges: words about a result that had the document may be the document's own.
    Trace("feedback", ("answer", "document", "comment"), _erase_feedback),
    Trace(
        "query_log",
        ("query", "passport", "results"),
        _rewrite("query_log", ("query", "passport", "results"), "collection_id = %(c)s"),
    ),
    # An answer that had it among its passages may say what it said, cited or not: its text goes whole.
    Trace("answer", ("question", "text", "citations"), _erase_answers),
    Trace("answer_source", ALL, _erase_sources),
    Trace("generation", ("metrics", "gate"), _rewrite("generation", ("metrics", "gate"), "collection_id = %(c)s")),
    Trace("document_text", ALL, _erase_text),
)

"""What trainings hold of a document: how it is taken out of datasets, and which models were trained on it.

Apart from :mod:`include.store.datasets`, which asks what is forgotten, so that the registry of traces may import it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from include.store.naming import Name, uri_hash, without

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from include.store.pool import Connection


def forget_rows(connection: Connection, collection: int, uri: str, contents: Sequence[UUID]) -> int:
    """Take the rows out whose passage is the document's: the question was made for it, and goes too.

    Also rows of a name that the collection no longer knows, whose passage stands in a text of the document: it was renamed.

    :param contents: hashes of its texts.
    """
    return connection.execute(
        f"delete from ragworks.dataset_row r using ragworks.dataset s where {_OF_DOCUMENT.format(text='r.positive')}",
        {"c": collection, "u": uri, "contents": list(contents)},
    ).rowcount


def forget_negatives(connection: Connection, collection: int, uri: str, contents: Sequence[UUID]) -> int:
    """Take it out of the negatives of other documents' rows, which stay."""
    condition = _OF_DOCUMENT.format(text="n.text").replace("r.uri", "n.uri")
    return connection.execute(
        "delete from ragworks.dataset_negative n using ragworks.dataset_row r, ragworks.dataset s"
        f" where r.id = n.row_id and {condition}",
        {"c": collection, "u": uri, "contents": list(contents)},
    ).rowcount


def forget_conversations(connection: Connection, collection: int, uri: str, contents: Sequence[UUID]) -> int:
    """Take the conversations out in which the document stands, as what answers or beside it, and its name out of the others.

    Also those that have it under a name that the collection no longer knows, by the text of the passage: it was renamed.

    :return: rows removed or rewritten.
    """
    parameters = {"c": collection, "u": uri, "contents": list(contents)}
    removed = connection.execute(
        "delete from ragworks.dataset_conversation r using ragworks.dataset s where r.dataset_id = s.id"
        f" and s.collection_id = %(c)s and (r.uri = %(u)s or %(u)s = any(r.documents) or exists ({_RENAMED_PASSAGE}))",
        parameters,
    ).rowcount
    return removed + _out_of_conversations(connection, collection, uri)


def _out_of_conversations(connection: Connection, collection: int, uri: str) -> int:
    """No message goes: a conversation without its answer would be none."""
    name = Name(uri)
    changed: list[tuple[Any, ...]] = []
    with connection.cursor(name="conversations") as cursor:
        cursor.execute(_NAMING, {"c": collection, "u": uri, "escaped": json.dumps(uri, ensure_ascii=False)[1:-1]})
        for key, messages, *texts, metadata in cursor:
            said = [{**one, "content": name.out_of_text(one["content"])} for one in messages]
            plain = [None if text is None else name.out_of_text(text) for text in texts]
            clean = name.out_of_json(metadata)
            if (said, plain, clean) != (messages, texts, metadata):
                changed.append((Jsonb(said), *plain, Jsonb(clean), key))
    for row in changed:
        connection.execute(
            "update ragworks.dataset_conversation set messages = %s, rejected = %s, expected = %s, metadata = %s where id = %s",
            row,
        )
    return len(changed)


def forget_in_runs(connection: Connection, collection: int, uri: str) -> int:
    """Erase what trainings report of a document: entries that quote it go whole, other mentions lose the name."""
    columns = "baseline, training, evaluation, gate, hardware, arguments, error"
    return _clean(connection, "model_run", columns, collection, uri)


def forget_in_deployments(connection: Connection, collection: int, uri: str) -> int:
    """The same of promotions."""
    return _clean(connection, "deployment", "settings, verification, reason", collection, uri)


def note_names(connection: Connection, collection: int, uris: Sequence[str], contents: Sequence[UUID]) -> None:
    """Let every dataset that holds a document be known by its present name too: what it was called before goes with it.

    :param uris: the present name, and the earlier ones.
    :param contents: hashes of its texts, by which rows are found that were made under another name.
    """
    connection.execute(
        "insert into ragworks.dataset_document (dataset_id, uri_hash) select s.id, %(h)s from ragworks.dataset s"
        f" where s.collection_id = %(c)s and {_HELD} on conflict do nothing",
        {
            "c": collection, "u": uris[0], "h": uri_hash(uris[0]), "names": [uri_hash(uri) for uri in uris],
            "contents": list(contents),
        },
    )  # fmt: skip


def models_trained_on(connection: Connection, collection: int, uri: str) -> list[str]:
    """Models whose dataset held the document, as ``reranker version 3 (run …)``, oldest first.

    Also as a negative: a model learns from those too. Trainings that were never begun, or failed before a checkpoint, left
    nothing behind. For what was renamed see :func:`note_names`.
    """
    rows = connection.execute(
        "select m.family, m.version, m.run_key, m.state"
        " from ragworks.model_run m join ragworks.dataset s on s.id = m.dataset_id"
        " where m.collection_id = %(c)s and (m.artifact is not null or m.checkpoint is not null"
        "  or m.state not in ('planned', 'failed'))"
        " and exists (select from ragworks.dataset_document d where d.dataset_id = s.id and d.uri_hash = %(h)s) order by m.id",
        {"c": collection, "h": uri_hash(uri)},
    )
    return [f"{family} {_called(version, state)} (run {key})" for family, version, key, state in rows]


def _called(version: int | None, state: str) -> str:
    return f"version {version}" if version is not None else f"without a version, {state}"


def _clean(connection: Connection, table: str, columns: str, collection: int, uri: str) -> int:
    name = Name(uri)
    names = columns.split(", ")
    with connection.cursor(name="trained") as cursor:
        cursor.execute(f"select id, {columns} from ragworks.{table} where collection_id = %s for no key update", (collection,))
        cleaned = [(row[0], list(row[1:]), [without(name, value) for value in row[1:]]) for row in cursor]
    changed = [(key, after) for key, before, after in cleaned if before != after]
    setting = ", ".join(f"{column} = %s" for column in names)
    for key, values in changed:
        stored = [Jsonb(value) if isinstance(value, dict | list) else value for value in values]
        connection.execute(f"update ragworks.{table} set {setting} where id = %s", (*stored, key))
    return len(changed)


# A row is of the document when it has its name; or a name that is no document's now, and a passage that its texts hold.
_OF_DOCUMENT = """r.dataset_id = s.id and s.collection_id = %(c)s and (r.uri = %(u)s
    or not exists (select from ragworks.document d where d.collection_id = %(c)s and d.uri = r.uri and d.state <> 'deleted')
    and exists (select from ragworks.document_text t where t.collection_id = %(c)s and t.content_hash = any(%(contents)s)
        and strpos(t.text, {text}) > 0))"""

# A passage shown in a conversation, of a document whose name is none now, and whose characters are those of the texts.
_RENAMED_PASSAGE = """select from jsonb_to_recordset(r.metadata -> 'passages') as p (document text, start int, "end" int)
    join ragworks.document_text t on t.collection_id = %(c)s and t.content_hash = any(%(contents)s)
    cross join jsonb_array_elements(r.messages) as m
    where p."end" > p.start and strpos(m ->> 'content', substr(t.text, p.start + 1, p."end" - p.start)) > 0 and not exists
    (select from ragworks.document d where d.collection_id = %(c)s and d.uri = p.document and d.state <> 'deleted')"""

# Whether a dataset holds the document, under one of its names or under another that is none now.
_HELD = f"""(exists (select from ragworks.dataset_document d where d.dataset_id = s.id and d.uri_hash = any(%(names)s))
    or exists (select from ragworks.dataset_row r where {_OF_DOCUMENT.format(text="r.positive")})
    or exists (select from ragworks.dataset_row r join ragworks.dataset_negative n on n.row_id = r.id
        where {_OF_DOCUMENT.format(text="n.text").replace("r.uri", "n.uri")})
    or exists (select from ragworks.dataset_conversation r where r.dataset_id = s.id and exists ({_RENAMED_PASSAGE})))"""

_NAMING = """select r.id, r.messages, r.rejected, r.expected, r.metadata from ragworks.dataset_conversation r
join ragworks.dataset s on s.id = r.dataset_id cross join lateral
    (select concat_ws(' ', r.messages::text, r.rejected, r.expected, r.metadata::text) as said) as whole
where s.collection_id = %(c)s and (strpos(said, %(u)s) > 0 or strpos(said, %(escaped)s) > 0) for no key update of r"""

"""Trainings: a row each, under the key of the run that asked for it; results travel by these rows."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from psycopg import sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from include.errors import BadData
from include.store import kept_out
from include.store.naming import documents_in

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from include.store.pool import Connection

ENDED = ("accepted", "refused")  # judged: the same work need not be done again
UNFINISHED = ("planned", "training", "interrupted", "trained", "evaluated")  # neither judged nor failed


@dataclass(frozen=True, slots=True)
class ModelRun:
    """A row of ragworks.model_run: the manifest of a training.

    :param arguments: fields of the family's dataclass in :mod:`include.training.arguments`.
    :param work_hash: of family, collection, dataset content, arguments and base.
    :param checkpoint: where the newest one lies, below ``RAGWORKS_ARTIFACTS``; ``artifact`` the finished model.
    :param gate: the decision, with its reasons.
    """

    id: int
    run_key: str
    family: str
    collection_id: int
    dataset_id: int | None
    arguments: dict[str, Any]
    work_hash: str
    state: str
    base: str
    base_fingerprint: str
    code_version: str
    attempts: int
    step: int
    checkpoint: str | None
    baseline: dict[str, Any] | None
    training: dict[str, Any]
    evaluation: dict[str, Any] | None
    gate: dict[str, Any] | None
    hardware: dict[str, Any]
    gpu_seconds: float
    cost: float | None
    artifact: str | None
    fingerprint: str | None
    version: int | None
    error: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


_COLUMNS = sql.SQL(", ").join(sql.Identifier(field.name) for field in fields(ModelRun))
_JSON = {"arguments", "baseline", "training", "evaluation", "gate", "hardware"}


def plan(
    connection: Connection,
    run_key: str,
    *,
    family: str,
    collection: int,
    dataset: int,
    arguments: Mapping[str, Any],
    work_hash: str,
    base: str,
    base_fingerprint: str,
    code_version: str,
    asked: str = "",
) -> ModelRun:
    """The training of this key, made when it is new; a retry gets the row that is there.

    :param asked: a hash of what was asked for, whatever data came of it; kept in ``training`` as ``asked``.
    """
    training = Jsonb({"asked": asked} if asked else {})
    what = (run_key, family, collection, dataset, Jsonb(dict(arguments)), work_hash)
    connection.execute(
        "insert into ragworks.model_run (run_key, family, collection_id, dataset_id, arguments, work_hash, base,"
        " base_fingerprint, code_version, training) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
        " on conflict (run_key) do nothing",
        (*what, base, base_fingerprint, code_version, training),
    )
    return by_key(connection, run_key)


def find(connection: Connection, run_key: str) -> ModelRun | None:
    """The training of a key, if one was planned."""
    return _one(connection, sql.SQL("run_key = %s"), (run_key,))


def by_key(connection: Connection, run_key: str) -> ModelRun:
    """The training of a key.

    :raises BadData: none was planned.
    """
    found = find(connection, run_key)
    if found is None:
        raise BadData(f"no training has the key {run_key!r}", "it was never planned", "Start with the step that makes its data")
    return found


def by_id(connection: Connection, run: int) -> ModelRun:
    """A training by its id.

    :raises BadData: there is none.
    """
    found = _one(connection, sql.SQL("id = %s"), (run,))
    if found is None:
        raise BadData(f"no training has the id {run}", "", "See: ragworks models")
    return found


def fingerprint_of(connection: Connection, artifact: str) -> str | None:
    """Of the model that a training left at an artifact; None: no training left one there."""
    row = connection.execute(
        "select fingerprint from ragworks.model_run where artifact = %s and fingerprint is not null order by id desc limit 1",
        (artifact,),
    ).fetchone()
    return str(row[0]) if row else None


def holding(connection: Connection, *, artifact: str | None = None, fingerprint: str | None = None) -> list[ModelRun]:
    """Trainings whose model this is, or was before it was merged."""
    condition = sql.SQL(
        "artifact = %(a)s or fingerprint = %(f)s or training #>> '{merge,trained,artifact}' = %(a)s"
        " or training #>> '{merge,trained,fingerprint}' = %(f)s"
    )
    return _many(connection, condition, {"a": artifact, "f": fingerprint})


def same_work(connection: Connection, work_hash: str, *, but: str) -> list[ModelRun]:
    """Other trainings of the same data, arguments and base that have not failed, newest first.

    :param but: the key of the run that asks.
    """
    return _many(connection, sql.SQL("work_hash = %s and run_key <> %s and state <> 'failed'"), (work_hash, but))


def asked_since(connection: Connection, collection: int, asked: str, since: datetime, *, but: str) -> list[ModelRun]:
    """Other trainings of a collection that were asked for in the same words, planned after a moment, and have not failed.

    :param asked: as :func:`plan` took it.
    :param but: the key of the run that asks.
    """
    condition = sql.SQL(
        "collection_id = %s and training ->> 'asked' = %s and created_at > %s and run_key <> %s and state <> 'failed'"
    )
    return _many(connection, condition, (collection, asked, since, but))


def runs_of(connection: Connection, family: str | None = None, collection: int | None = None) -> list[ModelRun]:
    """All trainings, newest first; of one family or collection if it is given."""
    condition = sql.SQL("(%s::text is null or family = %s) and (%s::int is null or collection_id = %s)")
    return _many(connection, condition, (family, family, collection, collection))


def change(connection: Connection, run: int, **columns: Any) -> None:
    """Set columns of a training; a value of ``finished_at`` or ``started_at`` may be ``now``.

    Reports are kept without what was forgotten while they were made.
    """
    if unknown := columns.keys() - {field.name for field in fields(ModelRun)}:
        raise ValueError(f"model_run has no {sorted(unknown)}")
    reports = {column: value for column, value in columns.items() if column in _JSON or column == "error"}
    if not documents_in(list(reports.values())):
        _change(connection, run, columns)
        return
    with connection.transaction():
        # As `forget` does: one of the two waits for the other.
        row = connection.execute(
            "select collection_id from ragworks.model_run where id = %s for no key update", (run,)
        ).fetchone()
        _change(connection, run, columns | kept_out.less_forgotten(connection, int(row[0]) if row else 0, reports))


def _change(connection: Connection, run: int, columns: Mapping[str, Any]) -> None:
    parts, values = [], []
    for name, value in columns.items():
        if value == "now" and name in ("started_at", "finished_at"):
            parts.append(sql.SQL("{} = now()").format(sql.Identifier(name)))
            continue
        parts.append(sql.SQL("{} = %s").format(sql.Identifier(name)))
        values.append(Jsonb(value) if name in _JSON and value is not None else value)
    statement = sql.SQL("update ragworks.model_run set {} where id = %s").format(sql.SQL(", ").join(parts))
    connection.execute(statement, (*values, run))


def _one(connection: Connection, condition: sql.SQL, parameters: tuple[Any, ...]) -> ModelRun | None:
    found = _many(connection, condition, parameters)
    return found[0] if found else None


def _many(connection: Connection, condition: sql.SQL, parameters: tuple[Any, ...] | dict[str, Any]) -> list[ModelRun]:
    query = sql.SQL("select {} from ragworks.model_run where {} order by id desc").format(_COLUMNS, condition)
    with connection.cursor(row_factory=class_row(ModelRun)) as cursor:
        return cursor.execute(query, parameters).fetchall()

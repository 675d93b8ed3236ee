"""Which number a training has in MLflow's registry: by environment, family and collection, as promotions name it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.errors import BadData
from include.store import model_runs

if TYPE_CHECKING:
    from include.store.model_runs import ModelRun
    from include.store.pool import Connection

REGISTER_LOCK = 0x5256  # advisory lock class; the second key is the collection's id


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A number and the training it stands for."""

    version: int
    run: ModelRun


def lock(connection: Connection, collection: int) -> None:
    """Hold the giving of numbers in a collection until the transaction ends: one training never gets two."""
    connection.execute("select pg_advisory_xact_lock(%s, %s)", (REGISTER_LOCK, collection))


def number_of(connection: Connection, environment: str, run: int) -> int | None:
    """The number of a training; None when it was not registered in this environment."""
    row = connection.execute(
        "select version from ragworks.model_version where environment = %s and model_run_id = %s", (environment, run)
    ).fetchone()
    return int(row[0]) if row else None


def run_of(connection: Connection, environment: str, family: str, collection: int, version: int) -> ModelRun:
    """The training that a number stands for.

    :raises BadData: no such version.
    """
    row = connection.execute(
        "select model_run_id from ragworks.model_version"
        " where environment = %s and family = %s and collection_id = %s and version = %s",
        (environment, family, collection, version),
    ).fetchone()
    if row is None:
        raise BadData(f"{family} has no version {version} in {environment}", "none was registered", "See: ragworks models")
    return model_runs.by_id(connection, int(row[0]))


def save(connection: Connection, environment: str, run: ModelRun, version: int) -> None:
    """Keep the number that MLflow gave to a training.

    :raises BadData: another training has it.
    """
    saved = connection.execute(
        "insert into ragworks.model_version (environment, family, collection_id, version, model_run_id)"
        " values (%s, %s, %s, %s, %s) on conflict do nothing",
        (environment, run.family, run.collection_id, version, run.id),
    ).rowcount
    if not saved:
        raise BadData(
            f"MLflow gave {run.family} of {run.run_key} the version {version}, which another training has here",
            "MLflow's tables were lost or replaced, and it counts from the start again",
            "Restore the schema mlflow from a backup that goes with this database",
        )


def versions(connection: Connection, environment: str, family: str, collection: int) -> list[ModelVersion]:
    """All numbers, newest first, with their trainings."""
    rows = connection.execute(
        "select version, model_run_id from ragworks.model_version"
        " where environment = %s and family = %s and collection_id = %s order by version desc",
        (environment, family, collection),
    ).fetchall()
    of_run = {run.id: run for run in model_runs.runs_of(connection, family, collection)} if rows else {}
    return [ModelVersion(int(version), of_run[run]) for version, run in rows]


def collections_with(connection: Connection, environment: str, family: str) -> list[str]:
    """Names of the collections that have a version of a family."""
    rows = connection.execute(
        "select distinct c.name from ragworks.model_version v join ragworks.collection c on c.id = v.collection_id"
        " where v.environment = %s and v.family = %s order by 1",
        (environment, family),
    )
    return [str(row[0]) for row in rows]

"""An Airflow of this process, with its metadata in a SQLite file, and DAGs over the collections of a test."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.dags.airflow_home import use_own_airflow_home

if TYPE_CHECKING:
    from collections.abc import Callable

    from include.config import Settings

use_own_airflow_home()


@dataclass
class DagRunResult:
    """How a run ended, by task; mapped tasks are a list."""

    run_id: str
    state: str
    tasks: dict[str, list[str]]
    tries: dict[str, int]
    events: list[dict[str, Any]] = field(default_factory=list)
    xcoms: dict[str, Any] = field(default_factory=dict)


@pytest.fixture(scope="session")
def airflow_metadata() -> None:
    """Airflow's tables. The tests of a running Airflow have them in Postgres; one process needs no more than a file."""
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture
def in_environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of the test as the environment of this process, where tasks of ``dag.test`` run."""
    monkeypatch.setenv("RAGWORKS_DATABASE_URL", settings.database_url or "")
    monkeypatch.setenv("RAGWORKS_HOME", str(settings.home))
    monkeypatch.setenv("RAGWORKS_COLLECTIONS_DIR", str(settings.collections_dir))
    return settings


@pytest.fixture
def run_dag(airflow_metadata: None, in_environment: Settings) -> Callable[..., DagRunResult]:
    """Run a DAG of ``dags/`` to its end in this process."""

    def run(dag_id: str, **conf: Any) -> DagRunResult:
        from tests.dags.snapshot import dag_to_test

        return _result(dag_to_test(dag_id).test(run_conf=conf or None))

    return run


def _result(dag_run: Any) -> DagRunResult:
    from airflow.models.asset import AssetEvent
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        instances = sorted(dag_run.get_task_instances(session=session), key=lambda ti: (ti.task_id, ti.map_index))
        result = DagRunResult(dag_run.run_id, str(dag_run.state), {}, {})
        for instance in instances:
            result.tasks.setdefault(instance.task_id, []).append(str(instance.state))
            result.tries[instance.task_id] = max(result.tries.get(instance.task_id, 0), instance.try_number)
        mine = (AssetEvent.source_dag_id == dag_run.dag_id, AssetEvent.source_run_id == dag_run.run_id)
        result.events = [{"asset": e.asset.name, "extra": e.extra} for e in session.scalars(select(AssetEvent).where(*mine))]
        rows = session.scalars(select(XComModel).where(XComModel.dag_id == dag_run.dag_id, XComModel.run_id == dag_run.run_id))
        result.xcoms = {f"{row.task_id}.{row.key}": XComModel.deserialize_value(row) for row in rows}
    return result

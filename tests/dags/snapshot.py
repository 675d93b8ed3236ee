"""The shape of every DAG, as a file that a reviewer sees change: ``python -m tests.dags.snapshot`` writes it anew.

The collections are those of ``tests/dags/collections``, one of each kind of schedule, so that the shape does not depend on
what a team indexes.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.dags.airflow_home import PROJECT_ROOT, use_own_airflow_home

if TYPE_CHECKING:
    from airflow.sdk import DAG

HERE = Path(__file__).resolve().parent
COLLECTIONS = HERE / "collections"
FILE = HERE / "snapshot.json"


def load_dags() -> dict[str, DAG]:
    """Every DAG that Airflow finds in ``dags/``, for the collections that the environment names."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(dag_folder=PROJECT_ROOT / "dags", bundle_path=PROJECT_ROOT / "dags", bundle_name="dags-folder")
    if bag.import_errors:
        raise ImportError(bag.import_errors)
    return dict(sorted(bag.dags.items()))


def dag_to_test(dag_id: str) -> DAG:
    """A DAG whose ``test()`` runs it in this process."""
    dag = load_dags()[dag_id]
    # Airflow 3.3.2: dag.test() of a DAG with a deadline raises when the run succeeds, because DagRun.update_state
    # looks the alerts up by ids that only the scheduler's copy of a DAG has. test_live_airflow.py runs with it.
    dag.deadline = None
    return dag


def shapes() -> dict[str, Any]:
    """Shape of each DAG over the sample collections."""
    before = os.environ.get("RAGWORKS_COLLECTIONS_DIR")
    os.environ["RAGWORKS_COLLECTIONS_DIR"] = str(COLLECTIONS)
    try:
        return {dag_id: shape(dag) for dag_id, dag in load_dags().items()}
    finally:
        if before is None:
            del os.environ["RAGWORKS_COLLECTIONS_DIR"]
        else:
            os.environ["RAGWORKS_COLLECTIONS_DIR"] = before


def shape(dag: DAG) -> dict[str, Any]:
    """What a reviewer wants to see change: when it runs, what of, and what others rely on."""
    return {
        "schedule": _schedule(dag.timetable),
        "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs,
        "tags": sorted(dag.tags),
        "deadlines": [str(alert.interval) for alert in dag.deadline or []],
        "params": {key: _param(dag.params.get_param(key).schema) | {"default": v} for key, v in dag.params.dump().items()},
        "tasks": {task.task_id: _task(task) for task in dag.topological_sort()},
    }


def _schedule(timetable: Any) -> Any:
    kind = type(timetable).__name__
    if expression := getattr(timetable, "expression", None):
        return {kind: f"{expression} {timetable.timezone}"}
    if inner := getattr(timetable, "timetable", None):
        return {kind: [_schedule(inner), _assets(timetable.asset_condition)]}
    if condition := getattr(timetable, "asset_condition", None):
        return {kind: _assets(condition)}
    return kind


def _assets(condition: Any) -> dict[str, list[str]]:
    assets = getattr(condition, "objects", [condition])  # one asset stands for itself
    return {type(condition).__name__: sorted(asset.name for asset in assets)}


def _param(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key not in ("title", "description_md", "values_display")}


def _task(task: Any) -> dict[str, Any]:
    return {
        "type": task.task_type,
        "mapped": task.is_mapped,
        "pool": task.pool,
        "trigger_rule": task.trigger_rule.value,
        "retries": task.retries,
        "execution_timeout": str(task.execution_timeout),
        "outlets": [asset.name for asset in task.outlets],
        "downstream": sorted(task.downstream_task_ids),
    }


def text() -> str:
    """The file's content."""
    return json.dumps(shapes(), indent=2) + "\n"


if __name__ == "__main__":
    use_own_airflow_home()
    FILE.write_text(text())

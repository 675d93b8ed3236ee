"""What every DAG of the project has, and the reviewed shape of each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.dags.airflow_home import PLUGINS, PROJECT_ROOT
from tests.dags.snapshot import COLLECTIONS, FILE, load_dags, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import DAG

HEAVY = ("torch", "transformers", "sentence_transformers", "pandas", "great_expectations", "mlflow", "kubernetes")

# Airflow itself first: what it costs and brings is not the DAG file's.
# By the processor's time: others may be using the machine.
IMPORT = f"""
import json, runpy, sys, time
started = time.process_time()
from airflow.sdk import DAG
airflow, before = time.process_time() - started, set(sys.modules)
started = time.process_time()
runpy.run_path(sys.argv[1])
print(json.dumps({{
    "airflow": airflow, "dag_file": time.process_time() - started,
    "brought": [m for m in {HEAVY!r} if m in set(sys.modules) - before],
    "airflow_brought": [m for m in {HEAVY!r} if m in before],
}}))
"""


@pytest.fixture(params=[COLLECTIONS, PROJECT_ROOT / "include" / "collections"], ids=["samples", "shipped"])
def dags(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, DAG]]:
    monkeypatch.setenv("RAGWORKS_COLLECTIONS_DIR", str(request.param))
    return load_dags()


def test_every_dag_says_what_it_is(dags: dict[str, DAG]) -> None:
    assert dags
    for dag in dags.values():
        assert "ragworks" in dag.tags
        assert len(dag.tags) >= 2
        assert dag.doc_md
        assert dag.description


def test_no_dag_runs_away_or_catches_up(dags: dict[str, DAG]) -> None:
    for dag in dags.values():
        assert dag.max_active_runs <= 2
        assert dag.catchup is False
        assert dag.start_date is None  # cron timetables begin at the first run: nothing to invent


def test_every_task_has_an_owner_retries_a_limit_and_a_pool(dags: dict[str, DAG]) -> None:
    for dag in dags.values():
        assert dag.default_args["owner"] == "ragworks"
        for task in dag.tasks:
            assert task.owner == "ragworks"
            assert task.retries >= 1
            assert task.retry_policy is not None
            assert task.execution_timeout is not None
            assert task.pool in ("default_pool", "gpu")


def test_dags_that_work_have_a_deadline(dags: dict[str, DAG]) -> None:
    for dag in dags.values():
        assert bool(dag.deadline) != ("broken" in dag.tags)


def test_the_shipped_collections_are_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAGWORKS_COLLECTIONS_DIR", raising=False)
    assert [dag.dag_id for dag in load_dags().values() if "broken" in dag.tags] == []


def test_the_shape_is_the_reviewed_one() -> None:
    assert json.loads(text()) == json.loads(FILE.read_text()), "the shape changed: if it is meant, run `make snapshot`"


@pytest.mark.parametrize("path", sorted((PROJECT_ROOT / "dags").glob("*.py")), ids=lambda path: path.name)
def test_a_dag_file_is_imported_quickly_and_without_heavy_libraries(path: object) -> None:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(PROJECT_ROOT), str(PLUGINS)]),
        "RAGWORKS_COLLECTIONS_DIR": str(COLLECTIONS),
    }
    tries = []
    for _ in range(3):  # the quickest: files may come from the disk
        done = subprocess.run(
            [sys.executable, "-c", IMPORT, str(path)], env=environment, capture_output=True, text=True, check=True
        )
        tries.append(json.loads(done.stdout.splitlines()[-1]))
        assert tries[-1]["brought"] == []
        assert tries[-1]["airflow_brought"] == []
        if tries[-1]["dag_file"] < 1:
            break
    assert min(one["dag_file"] for one in tries) < 1, tries


def test_the_deadline_is_told_to_a_person(caplog: pytest.LogCaptureFixture) -> None:
    import asyncio

    from airflow.sdk.module_loading import import_string

    from ragworks.defaults import deadline

    callback = import_string(deadline().callback.path)  # as the triggerer finds it
    context = {"dag_run": {"dag_id": "index_handbook", "dag_run_id": "manual__1", "state": "running"}}
    text = asyncio.run(callback(context=context))
    assert "index_handbook, run manual__1" in text
    assert [record.levelname for record in caplog.records if record.message == text] == ["ERROR"]


def test_errors_decide_about_retries() -> None:
    from airflow.sdk import RetryAction

    from include import errors
    from ragworks.defaults import RETRY_POLICY

    def action(error: Exception) -> RetryAction:
        return RETRY_POLICY.evaluate(error, try_number=1, max_tries=3).action

    assert action(errors.BadData("x")) is RetryAction.FAIL
    assert action(errors.BadConfiguration("x")) is RetryAction.FAIL
    assert action(errors.ServiceUnavailable("x")) is RetryAction.RETRY
    assert action(OSError("x")) is RetryAction.DEFAULT

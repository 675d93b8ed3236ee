"""The task in a DAG of Airflow: its connection, its trigger, its retries, its log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.kubernetes.tasks import COMMAND

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from include.store.model_runs import ModelRun
    from tests.kubernetes.loopback import Cluster

    Row = Callable[..., ModelRun]
    MakeFile = Callable[..., Path]

DAG = "gpu_task_of_a_test"
KEY = f"{DAG}/of-a-test"
FILE = """
from datetime import timedelta
from airflow.sdk import DAG
from ragworks.defaults import default_args
from ragworks.operators.gpu import GpuTaskOperator

with DAG({dag!r}, schedule=None, default_args={{**default_args(), "retry_delay": timedelta(seconds=0)}}):
    GpuTaskOperator(
        task_id="train", family="reranker", run_key="{{{{ dag.dag_id }}}}/of-a-test", command={command!r}, poll_interval=0.2,
        profiles_file={profiles!r}, pod_arguments={{"startup_check_interval_seconds": 0.2}},
    )
"""


@pytest.fixture
def run(cluster: Cluster, profiles: MakeFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Runs a DAG with one GPU task, and the project's defaults but for the time between tries."""
    from airflow.utils.db import initdb

    folder = tmp_path / "dags"
    folder.mkdir()
    (folder / "gpu.py").write_text(FILE.format(dag=DAG, command=COMMAND, profiles=str(profiles())))
    local = "airflow.dag_processing.bundles.local.LocalDagBundle"
    bundles = [
        {"name": "dags-folder", "classpath": local, "kwargs": {}},
        {"name": "of-a-test", "classpath": local, "kwargs": {"path": str(folder)}},
    ]
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps(bundles))
    monkeypatch.setenv(
        "AIRFLOW_CONN_KUBERNETES_DEFAULT", f"kubernetes://?kube_config_path={tmp_path}%2Fkubeconfig&namespace=ml"
    )
    initdb()

    def start() -> Any:
        from airflow.dag_processing.dagbag import DagBag

        return DagBag(str(folder)).dags[DAG].test()

    return start


@pytest.mark.slow
def test_interrupted_retried_and_done(run: Callable[[], Any], planned: Row, row: Row, cluster: Cluster) -> None:
    planned(KEY, steps=6, ends={"3": 75})
    dag_run = run()
    (instance,) = dag_run.get_task_instances()
    assert (str(dag_run.state), instance.try_number, instance.pool) == ("success", 2, "gpu")
    assert (row(KEY).state, row(KEY).attempts, row(KEY).step) == ("trained", 2, 6)
    assert [body["metadata"]["namespace"] for body in cluster.created] == ["ml", "ml"]
    assert [body["metadata"]["labels"]["try_number"] for body in cluster.created] == ["1", "2"]


@pytest.mark.slow
def test_what_cannot_be_retried_is_tried_once(run: Callable[[], Any], planned: Row, row: Row, cluster: Cluster) -> None:
    planned(KEY, ends={"1": 65})
    dag_run = run()
    (instance,) = dag_run.get_task_instances()
    assert (str(dag_run.state), str(instance.state), instance.try_number) == ("failed", "failed", 1)
    assert len(cluster.created) == 1

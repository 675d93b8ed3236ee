"""A cluster of this process, trainings on real Postgres, and tasks on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from include.store import collections, model_runs
from include.store.pool import open_pool
from tests.dags.airflow_home import use_own_airflow_home

use_own_airflow_home()

from tests.kubernetes.loopback import Cluster, Node  # noqa: E402 - below the line that sets Airflow's home
from tests.kubernetes.tasks import COMMAND, KEY, KUBECONFIG_TOKEN, Task  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from include.config import Settings
    from include.store.model_runs import ModelRun


@pytest.fixture
def in_environment(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    """The settings of the test as the environment of this process, where the task runs."""
    monkeypatch.setenv("RAGWORKS_DATABASE_URL", settings.database_url or "")
    monkeypatch.setenv("RAGWORKS_HOME", str(settings.home))
    monkeypatch.setenv("RAGWORKS_COLLECTIONS_DIR", str(settings.collections_dir))
    monkeypatch.setenv("RAGWORKS_ARTIFACTS", "s3://models/ragworks")
    monkeypatch.setenv("RAGWORKS_COMPUTE", "kubernetes")
    return settings


@pytest.fixture
def cluster(in_environment: Settings, tmp_path: Path) -> Iterator[Cluster]:
    """One node with one GPU, and the Secret `ragworks`."""
    secrets = {"ragworks": {"database-url": in_environment.database_url or ""}}
    cluster = Cluster([Node("node-1", 1, {"gpu": "small"})], secrets, tmp_path)
    cluster.start()
    cluster.kubeconfig(tmp_path / "kubeconfig", KUBECONFIG_TOKEN)
    yield cluster
    cluster.stop()


@pytest.fixture
def profiles(tmp_path: Path) -> Callable[..., Path]:
    """Writes a file of profiles; each is given by what differs from the smallest one."""

    def write(*different: dict[str, Any]) -> Path:
        small = {"name": "small", "cpu": "1", "memory": "1Gi", "schedule_timeout_seconds": 30}
        path = tmp_path / "profiles.yaml"
        path.write_text(yaml.safe_dump({"profiles": [small | one for one in different or ({},)]}))
        return path

    return write


@pytest.fixture
def planned(settings: Settings) -> Callable[..., ModelRun]:
    """Writes the row of a training that is to be done; its arguments are the trainer's wishes."""

    def plan(key: str = KEY, **wishes: Any) -> ModelRun:
        with open_pool(settings) as pool, pool.connection() as connection:
            collection = collections.ensure_collection(connection, "handbook")
            row = connection.execute(
                "insert into ragworks.dataset (collection_id, name, version, content_hash, origin)"
                " values (%s, 'd', (select count(*) + 1 from ragworks.dataset), %s, 'qrels') returning id",
                (collection, key),
            ).fetchone()
            assert row
            return model_runs.plan(
                connection, key, family="reranker", collection=collection, dataset=row[0],
                arguments={"steps": 3, "seconds": 0.05, **wishes}, work_hash=key, base="b", base_fingerprint="f",
                code_version="c",
            )  # fmt: skip

    return plan


@pytest.fixture
def row(settings: Settings) -> Callable[..., ModelRun]:
    """The training's row as it is."""

    def read(key: str = KEY) -> ModelRun:
        with open_pool(settings) as pool, pool.connection() as connection:
            return model_runs.by_key(connection, key)

    return read


@pytest.fixture
def task(cluster: Cluster, profiles: Callable[..., Path], tmp_path: Path) -> Callable[..., Task]:
    """A GPU task on the cluster."""

    def make(**arguments: Any) -> Task:
        if "profiles_file" not in arguments:
            arguments["profiles_file"] = str(profiles())
        pod = {"config_file": str(tmp_path / "kubeconfig"), "startup_check_interval_seconds": 0.1, **arguments.pop("pod", {})}
        defaults = {"family": "reranker", "run_key": KEY, "command": COMMAND, "grace_seconds": 10, "poll_interval": 0.1}
        return Task({**defaults, "pod_arguments": pod, **arguments})

    return make

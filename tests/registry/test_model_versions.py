"""Versions in a real MLflow registry on the same database: one a training, whoever asks and whatever dies."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from include.config import PROJECT_ROOT, Settings
from include.errors import BadData, ServiceUnavailable
from include.registry import versions
from include.registry.mlflow_client import mlflow_client
from include.registry.promotion import promote
from include.registry.rollback import roll_back_model
from include.registry.versions import RUN_KEY, register, sync_aliases
from include.store import collections, model_runs
from tests.registry.conftest import trained
from tests.support import query

if TYPE_CHECKING:
    from pathlib import Path

    from include.store.pool import Pool

KEY = "train_reranker/manual__2026-11-28T10:00:00+00:00"
NAME = "production.reranker.handbook"


@pytest.fixture(autouse=True)
def _collection(handbook: str) -> str:
    return handbook


def _versions(settings: Settings) -> list[tuple[Any, ...]]:
    return query(settings, "select name, version from mlflow.model_versions order by name, version")


def _aliases(settings: Settings) -> dict[str, int]:
    return dict(mlflow_client(settings).get_registered_model(NAME).aliases)


def test_one_version_with_all_that_is_known(settings: Settings, pool: Pool, rerankers: list[Path]) -> None:
    trained(
        settings, pool, "reranker", rerankers[0], key=KEY,
        baseline={"measures": {"ndcg@10": {"value": 0.31}}, "slices": {"person": {"Jane Doe": 0.2}}},
        training={"seconds": 12.5, "loss": [[1, 0.7]], "bf16": True},
    )  # fmt: skip
    assert register(settings, pool, KEY) == register(settings, pool, KEY) == 1
    assert _versions(settings) == [(NAME, 1)]
    client = mlflow_client(settings)
    (found,) = client.search_model_versions(f"name='{NAME}'")
    assert found.tags[RUN_KEY] == KEY
    assert (found.tags["verdict"], found.tags["work_hash"]) == ("accepted", KEY)
    assert found.source.startswith(settings.artifacts + "/models/reranker/handbook/")
    run = client.get_run(found.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"base": "all-MiniLM-L6-v2", "epochs": "3"}
    assert run.data.metrics["baseline.ndcg_at_10.value"] == 0.31
    assert run.data.metrics["evaluation.challenger.ndcg_at_10.value"] == 0.4
    assert run.data.metrics["training.seconds"] == 12.5
    assert not any("Jane" in name for name in run.data.metrics)
    with pool.connection() as connection:
        assert model_runs.by_key(connection, KEY).version == 1


def test_credentials_of_the_store_are_not_told_to_mlflow(settings: Settings, pool: Pool, rerankers: list[Path]) -> None:
    trained(settings, pool, "reranker", rerankers[0], key=KEY)
    remote = settings.model_copy(update={"artifacts": "s3://me:secret@models/ragworks"})
    register(remote, pool, KEY)
    client = mlflow_client(settings)
    (found,) = client.search_model_versions(f"name='{NAME}'")
    assert found.source.startswith("s3://models/ragworks/models/reranker/handbook/")
    assert client.get_experiment_by_name(NAME).artifact_location == "s3://models/ragworks/mlflow"


def test_a_crash_between_mlflow_and_our_row(
    settings: Settings, pool: Pool, rerankers: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Died after MLflow's run, then after its version: found again by the key, not made again."""
    trained(settings, pool, "reranker", rerankers[0], key=KEY)

    class Killed(BaseException):
        pass

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    client = type(mlflow_client(settings))
    for owner, name in ((client, "create_model_version"), (versions.model_versions, "save")):
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, die)
            with pytest.raises(Killed):
                register(settings, pool, KEY)
    assert _versions(settings) == [(NAME, 1)]
    assert query(settings, "select count(*) from ragworks.model_version") == [(0,)]
    assert register(settings, pool, KEY) == 1
    assert _versions(settings) == [(NAME, 1)]
    assert query(settings, "select count(*) from mlflow.runs") == [(1,)]


def test_several_processes_at_once(settings: Settings, pool: Pool, rerankers: list[Path]) -> None:
    keys = [f"{KEY}/{n}" for n in range(2)]
    for key in keys:
        trained(settings, pool, "reranker", rerankers[0], key=key)
    code = (
        "import sys; from include.config import Settings; from include.store.pool import open_pool\n"
        "from include.registry.versions import register\n"
        f"settings = Settings(database_url={settings.database_url!r}, artifacts={settings.artifacts!r})\n"
        "with open_pool(settings) as pool: print(register(settings, pool, sys.argv[1]))"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, key], cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True)
        for key in (keys[0], keys[0], keys[1])
    ]
    said = [process.communicate(timeout=300)[0].strip() for process in started]
    assert said[0] == said[1]
    assert sorted({*said}) == ["1", "2"]
    assert _versions(settings) == [(NAME, 1), (NAME, 2)]


def test_without_a_model(settings: Settings, pool: Pool) -> None:
    with pool.connection() as connection:
        collection = collections.collection_id(connection, "handbook")
        model_runs.plan(
            connection, KEY, family="reranker", collection=collection, dataset=None,  # type: ignore[arg-type]
            arguments={}, work_hash="w", base="b", base_fingerprint="b", code_version="c",
        )  # fmt: skip
    with pytest.raises(BadData, match="it is planned, without a model"):
        register(settings, pool, KEY)
    with pytest.raises(BadData, match="no training has the key 'other'"):
        register(settings, pool, "other")


def test_aliases_follow_the_table_also_after_mlflow_was_away(
    settings: Settings, pool: Pool, rerankers: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Its tables gone: promotion and rollback go on with a warning, and the next look makes the aliases good."""
    for number in (1, 2):
        trained(settings, pool, "reranker", rerankers[0], key=f"k{number}", weight=number / 10)
        assert register(settings, pool, f"k{number}") == number
    assert _aliases(settings) == {"challenger": 2}
    promote(settings, pool, "reranker", 1, collection="handbook")
    assert _aliases(settings) == {"champion": 1, "challenger": 2}
    _rename(settings, "away")
    caplog.set_level(logging.WARNING)
    promote(settings, pool, "reranker", 2, collection="handbook")
    assert "the aliases of production.reranker.handbook in MLflow are not up to date" in caplog.text
    assert roll_back_model(settings, pool, "reranker", collection="handbook")["version"] == 1
    assert roll_back_model(settings, pool, "reranker", collection="handbook")["version"] == 2
    trained(settings, pool, "reranker", rerankers[1], key="k3")
    with pytest.raises(ServiceUnavailable, match="MLflow's registry cannot be used"):
        register(settings, pool, "k3")
    _rename(settings, "back")
    assert sync_aliases(settings, pool, "reranker", "handbook")
    assert _aliases(settings) == {"champion": 2}
    assert register(settings, pool, "k3") == 3
    assert _aliases(settings) == {"champion": 2, "challenger": 3}


def test_a_refused_one_is_no_challenger(settings: Settings, pool: Pool, rerankers: list[Path]) -> None:
    trained(settings, pool, "reranker", rerankers[0], key="k1", state="refused")
    assert register(settings, pool, "k1") == 1
    assert _aliases(settings) == {}


def test_mlflow_that_counts_from_the_start_again(settings: Settings, pool: Pool, rerankers: list[Path]) -> None:
    trained(settings, pool, "reranker", rerankers[0], key="k1")
    register(settings, pool, "k1")
    mlflow_client(settings).delete_registered_model(NAME)
    trained(settings, pool, "reranker", rerankers[0], key="k2")
    with pytest.raises(BadData, match="MLflow's tables were lost or replaced"):
        register(settings, pool, "k2")


def _rename(settings: Settings, to: str) -> None:
    import psycopg

    names = ("registered_model_aliases", "registered_model_gone")
    old, new = names if to == "away" else names[::-1]
    with psycopg.connect(settings.database_url or "", autocommit=True) as connection:
        connection.execute(f"alter table mlflow.{old} rename to {new}")  # type: ignore[arg-type]

"""The whole way that a user goes: a running Airflow, a token, a trigger through REST, an answer from the index."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml

from include.config import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WAIT = 150  # seconds for a run: the first loads the model on a busy machine


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, Settings, Path]]:
    """A client with a token, and the settings and documents of the Airflow that it talks to."""
    from include.stack import airflow

    folder = tmp_path_factory.mktemp("live")
    documents, collections = folder / "documents", folder / "collections"
    documents.mkdir()
    collections.mkdir()
    (documents / "pools.md").write_text("# Pools\n\nA pool limits how many tasks run at the same time.\n")
    (documents / "assets.md").write_text("# Assets\n\nAn update of an asset starts the DAGs that wait for it.\n")
    (collections / "manual.yaml").write_text(
        yaml.safe_dump({"name": "manual", "source": {"type": "files", "path": str(documents)}})
    )
    settings = Settings(home=folder / "home", collections_dir=collections, artifacts=(folder / "artifacts").as_uri())
    try:
        status = airflow.up(settings, port=18080, progress=lambda line: None)
        password = json.loads(status.password_file.read_text())[status.user]
        with httpx.Client(base_url=status.url, timeout=30, trust_env=False) as client:
            reply = client.post("/auth/token", json={"username": status.user, "password": password})
            assert reply.status_code == 201
            client.headers["Authorization"] = f"Bearer {reply.json()['access_token']}"
            _until(lambda: client.get("/api/v2/dags/index_manual").status_code == 200, "the DAG is known")
            yield client, settings, documents
    finally:
        airflow.down(settings, progress=lambda line: None)


@pytest.mark.slow
def test_a_triggered_run_indexes_and_the_next_one_has_nothing_to_do(live: tuple[httpx.Client, Settings, Path]) -> None:
    from include.retrieval.searcher import Searcher
    from include.store.pool import open_pool

    client, settings, documents = live
    first = _run(client, {"mode": "incremental", "allow_deletes": False, "workers": 2})
    assert first == {"plan": ["success"], "index": ["success", "success"], "validate": ["success"], "publish": ["success"]}
    with open_pool(settings) as pool:
        [best], passport = Searcher(settings, pool, "manual").search("what limits parallel tasks?", top_k=1)
    assert best.document == "pools.md"
    assert (documents / best.document).read_text()[best.start : best.end] == best.text
    assert passport["collection"] == "manual"
    events = client.get("/api/v2/assets/events", params={"source_dag_id": "index_manual"}).json()["asset_events"]
    assert [(event["name"], event["extra"]["total"], event["extra"]["embedded"]) for event in events] == [
        ("ragworks.manual.index", 2, 2)
    ]
    second = _run(client, {})
    assert second == {"plan": ["success"], "index": ["skipped"], "validate": ["success"], "publish": ["skipped"]}


@pytest.mark.slow
def test_a_plan_stops_after_its_first_task(live: tuple[httpx.Client, Settings, Path]) -> None:
    client, _, _ = live
    assert _run(client, {"mode": "plan"}) == {
        "plan": ["success"],
        "index": ["skipped"],
        "validate": ["skipped"],
        "publish": ["skipped"],
    }


@pytest.mark.slow
def test_rest_refuses_what_the_form_refuses(live: tuple[httpx.Client, Settings, Path]) -> None:
    client, _, _ = live
    body = {"logical_date": None, "conf": {"workers": 0}}
    reply = client.post("/api/v2/dags/index_manual/dagRuns", json=body)
    assert reply.status_code == 400
    assert "workers" in reply.text


@pytest.mark.slow
def test_the_plugin_is_loaded_and_nothing_failed_to_import(live: tuple[httpx.Client, Settings, Path]) -> None:
    client, _, _ = live
    assert "ragworks" in [plugin["name"] for plugin in client.get("/api/v2/plugins").json()["plugins"]]
    assert client.get("/api/v2/plugins/importErrors").json()["total_entries"] == 0
    assert client.get("/api/v2/importErrors").json()["total_entries"] == 0


def _run(client: httpx.Client, conf: dict[str, Any]) -> dict[str, list[str]]:
    """Trigger, wait, and return the states of its tasks; the run itself must be a success."""
    reply = client.post("/api/v2/dags/index_manual/dagRuns", json={"logical_date": None, "conf": conf})
    assert reply.status_code == 200, reply.text
    run = f"/api/v2/dags/index_manual/dagRuns/{reply.json()['dag_run_id']}"
    _until(lambda: client.get(run).json()["state"] in ("success", "failed"), f"{run} ends")
    instances = client.get(f"{run}/taskInstances").json()["task_instances"]
    states: dict[str, list[str]] = {}
    for instance in instances:
        states.setdefault(instance["task_id"], []).append(instance["state"])
    assert client.get(run).json()["state"] == "success", states
    return states


def _until(done: Any, what: str) -> None:
    began = time.monotonic()
    while not done():
        assert time.monotonic() - began < WAIT, f"not within {WAIT} s: {what}"
        time.sleep(0.5)

"""The whole way that a user goes: a running Airflow, a token, a trigger through REST, an answer from the index.

Also what starts a run by itself: a change of the source, and the event of another DAG's asset.
"""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml

from include.config import Settings
from tests.conftest import free_port
from tests.support import export, query

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WAIT = 240  # seconds for a run: the first loads the model on a busy machine


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, Settings, Path]]:
    """A client with a token, and the settings and documents of the Airflow that it talks to."""
    from include.stack import airflow

    folder = tmp_path_factory.mktemp("live")
    documents, collections = folder / "documents", folder / "collections"
    watched = folder / "watched"
    for new in (documents, collections, watched):
        new.mkdir()
    (documents / "pools.md").write_text("# Pools\n\nA pool limits how many tasks run at the same time.\n")
    (documents / "assets.md").write_text("# Assets\n\nAn update of an asset starts the DAGs that wait for it.\n")
    (watched / "first.md").write_text("# First\n\nThe page that was there before.\n")
    for name, schedule, source in (
        ("manual", None, {"path": str(documents)}),
        ("watched", {"watch": 1}, {"path": str(watched), "conn_id": "store"}),
        ("awaiting", {"assets": ["exports"]}, {"path": str(documents)}),
    ):
        content = {"name": name, "schedule": schedule, "source": {"type": "files", **source}}
        (collections / f"{name}.yaml").write_text(yaml.safe_dump(content))
    settings = Settings(home=folder / "home", collections_dir=collections, artifacts=(folder / "artifacts").as_uri())
    try:
        status = airflow.up(settings, port=free_port(), progress=lambda line: None)
        password = json.loads(status.password_file.read_text())[status.user]
        with httpx.Client(base_url=status.url, timeout=30, trust_env=False) as client:
            reply = client.post("/auth/token", json={"username": status.user, "password": password})
            assert reply.status_code == 201
            client.headers["Authorization"] = f"Bearer {reply.json()['access_token']}"
            # A source's connection is asked for in the triggerer too; a local path makes no other use of it.
            assert client.post("/api/v2/connections", json={"connection_id": "store", "conn_type": "generic"}).is_success
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
    assert first == {
        "plan": ["success"],
        "index": ["success", "success"],
        "validate": ["success"],
        "publish": ["success"],
        "evaluate": ["skipped"],
    }
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
    assert second == {
        "plan": ["success"],
        "index": ["skipped"],
        "validate": ["success"],
        "publish": ["skipped"],
        "evaluate": ["skipped"],
    }


@pytest.mark.slow
def test_a_plan_stops_after_its_first_task(live: tuple[httpx.Client, Settings, Path]) -> None:
    client, _, _ = live
    assert _run(client, {"mode": "plan"}) == {
        "plan": ["success"],
        "index": ["skipped"],
        "validate": ["skipped"],
        "publish": ["skipped"],
        "evaluate": ["skipped"],
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


@pytest.mark.slow
def test_a_file_that_is_dropped_into_a_watched_folder_is_indexed_by_itself(live: tuple[httpx.Client, Settings, Path]) -> None:
    client, settings, documents = live
    _until(lambda: _ended(client, "index_watched", 1), "what was never indexed is")
    time.sleep(5)
    assert len(_runs(client, "index_watched")) == 1  # five looks found nothing
    dropped = time.time()
    (documents.parent / "watched" / "second.md").write_text("# Second\n\nThe page that came by itself.\n")
    _until(lambda: _ended(client, "index_watched", 2), "the new file is indexed")
    assert [run["run_type"] for run in _runs(client, "index_watched")] == ["asset_triggered"] * 2
    assert {row["document"] for row in export(settings, "watched")} == {"first.md", "second.md"}
    events = client.get("/api/v2/assets/events", params={"name_pattern": "ragworks.watched.source"}).json()["asset_events"]
    payloads = [event["extra"]["payload"] for event in sorted(events, key=lambda event: event["id"])]
    assert payloads == [{"collection": "watched", "changed": 1, "vanished": 0}] * 2
    run = _runs(client, "index_watched")[-1]["dag_run_id"]
    plan = client.get(f"/api/v2/dags/index_watched/dagRuns/{run}/taskInstances/plan").json()
    started = datetime.fromisoformat(plan["start_date"]).timestamp() - dropped
    [(published,)] = query(settings, "select extract(epoch from finished_at)::float from ragworks.run where key = %s", run)
    print(f"\nfrom the write to the first task {started:.1f} s, to the published index {published - dropped:.1f} s")
    assert 0 < started < 90  # a few seconds on a machine that has nothing else to do


@pytest.mark.slow
def test_the_event_of_another_dags_asset_starts_a_run(live: tuple[httpx.Client, Settings, Path]) -> None:
    client, settings, documents = live

    def asset() -> Any:
        found = client.get("/api/v2/assets", params={"name_pattern": "exports"}).json()["assets"]
        return found[0]["id"] if found else None

    _until(lambda: asset() is not None, "the asset is known")
    assert _runs(client, "index_awaiting") == []
    assert client.post("/api/v2/assets/events", json={"asset_id": asset(), "extra": {}}).is_success
    _until(lambda: _ended(client, "index_awaiting", 1), "the event starts a run")
    assert {row["document"] for row in export(settings, "awaiting")} == {path.name for path in documents.iterdir()}


def _runs(client: httpx.Client, dag_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(f"/api/v2/dags/{dag_id}/dagRuns").json().get("dag_runs", [])
    return sorted(found, key=lambda run: run["run_after"])


def _ended(client: httpx.Client, dag_id: str, number: int) -> bool:
    """Whether so many runs have ended; each must be a success."""
    states = [run["state"] for run in _runs(client, dag_id)]
    assert "failed" not in states
    return states.count("success") == number


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

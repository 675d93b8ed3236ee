"""Monitoring under a running Airflow: decisions become trainings, reports become decisions, sensors wait for free."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml

from include.config import Settings
from include.stack import airflow, processes
from include.stack.api import FINAL, AirflowApi
from include.stack.environment import process_environment
from include.store import decisions
from include.store.pool import open_pool
from tests.conftest import free_port
from tests.dags.events import send_event
from tests.support import HashEmbedder, index, query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow
NAME = "handbook"
WAIT = 600  # seconds for a run on a machine that does other work too
SENSORS = """
from airflow.sdk import DAG
from ragworks.sensors import IndexFreshSensor, NewFeedbackSensor

with DAG("waiting", schedule=None):
    NewFeedbackSensor(task_id="feedback", collection="handbook", poke_interval=0.5, timeout=600)
    IndexFreshSensor(task_id="fresh", collection="handbook", since="2100-01-01", poke_interval=0.5, timeout=4)
"""
BUNDLE = "airflow.dag_processing.bundles.local.LocalDagBundle"


class _Hook(BaseHTTPRequestHandler):
    said: list[str] = []  # noqa: RUF012

    def do_POST(self) -> None:
        self.said.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


class Live:
    """A running Airflow with one indexed collection, and somebody who listens to what it says."""

    def __init__(self, settings: Settings, stack: airflow.StackStatus) -> None:
        self.settings, self.api, self.url = settings, AirflowApi(stack), stack.url
        self.http = self.api._client
        self.http.timeout = 120  # the machine may do other work

    def until(self, what: str, done: Callable[[], Any]) -> Any:
        began = time.monotonic()
        while not (found := done()):
            assert time.monotonic() - began < WAIT, f"not within {WAIT} s: {what}"
            time.sleep(0.25)
        return found

    def runs(self, dag_id: str, number: int) -> list[dict[str, Any]]:
        """The runs of a DAG, when so many have ended."""
        self.until(
            f"{number} runs of {dag_id}", lambda: [r["state"] in FINAL for r in self.api.runs(dag_id)].count(True) >= number
        )
        return self.api.runs(dag_id)

    def states(self, dag_id: str, run_id: str) -> dict[str, str]:
        reply = self.http.get(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances")
        return {task["task_id"]: task["state"] for task in reply.json()["task_instances"]}

    def decision(self, number: int) -> decisions.StoredDecision:
        with open_pool(self.settings) as pool, pool.connection() as connection:
            found = decisions.by_id(connection, number)
        assert found is not None
        return found

    def over(self, number: int) -> decisions.StoredDecision:
        self.until(f"decision {number} is over", lambda: self.decision(number).state in ("done", "refused"))
        return self.decision(number)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("monitoring")
    documents, more = folder / "documents", folder / "dags"
    documents.mkdir()
    more.mkdir()
    (documents / "pools.md").write_text("# Pools\n\nA pool limits how many tasks run at the same time.\n")
    (more / "waiting.py").write_text(SENSORS)
    settings = Settings(home=folder / "home", collections_dir=folder / "collections", artifacts=(folder / "artifacts").as_uri())
    settings.collections_dir.mkdir()
    content = {
        "name": NAME, "source": {"type": "files", "path": str(documents)},
        "monitoring": {"schedule": None, "policy": {"reranker": "auto", "embedder": "approve"}},
    }  # fmt: skip
    (settings.collections_dir / f"{NAME}.yaml").write_text(yaml.safe_dump(content))
    bundles = [{"name": "dags-folder", "classpath": BUNDLE, "kwargs": {}}]
    bundles += [{"name": "more", "classpath": BUNDLE, "kwargs": {"path": str(more)}}]
    with HTTPServer(("127.0.0.1", 0), _Hook) as hook, pytest.MonkeyPatch.context() as environment:
        threading.Thread(target=hook.serve_forever, args=(0.05,), daemon=True).start()
        slack = {"conn_type": "http", "password": f"http://127.0.0.1:{hook.server_port}/"}
        environment.setenv("AIRFLOW_CONN_RAGWORKS_SLACK", json.dumps(slack))
        environment.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps(bundles))
        try:
            running = Live(settings, airflow.up(settings, port=free_port(), progress=lambda line: None))
            index(settings, NAME, embedder=HashEmbedder())
            for dag_id in ("train_reranker", f"monitor_{NAME}", "waiting"):
                running.until(f"{dag_id} is known", lambda d=dag_id: running.http.get(f"/api/v2/dags/{d}").status_code == 200)
            yield running
        finally:
            airflow.down(settings, progress=lambda line: None)
            hook.shutdown()


def decide(live: Live, family: str) -> int:
    """What a monitor whose policy is auto leaves behind."""
    with open_pool(live.settings) as pool, pool.connection() as connection:
        number = decisions.save(
            connection, environment="production", collection=1, at=datetime.now(UTC), action="train", family=family,
            mode="auto", state="approved", reason="quality is lost", evidence={}, breaches=(), monitor_key="test",
        )  # fmt: skip
    assert number is not None
    return number


def test_a_decision_starts_one_training_within_seconds_and_doubled_events_none(live: Live) -> None:
    number = decide(live, "reranker")
    decided = time.time()
    [first] = live.until("a training", lambda: live.api.runs("train_reranker"))
    task = live.until(
        "its first task", lambda: live.api.task("train_reranker", first["dag_run_id"], "collection")["start_date"]
    )
    waited = datetime.fromisoformat(task).timestamp() - decided
    print(f"\nfrom the decision to the first task of its training {waited:.1f} s")
    assert 0 < waited < 60  # a few seconds on a machine that has nothing else to do
    for _ in range(2):
        send_event(live.api, "ragworks.reranker.retrain", {"decision": number, "collection": NAME})
    closed = live.over(number)
    runs = live.runs("train_reranker", 2)
    assert closed.run_key == f"train_reranker/{first['dag_run_id']}"
    # Nobody has asked anything yet, so there is nothing to train on: the run fails, and stays failed after its teardown.
    assert (first["dag_run_id"], runs[0]["state"]) == (runs[0]["dag_run_id"], "failed")
    assert closed.outcome is not None
    assert (closed.outcome["state"], closed.outcome["failed"]) == ("failed", ["data"])
    assert [live.states("train_reranker", run["dag_run_id"])["data"] for run in runs] == [
        "failed",
        *["skipped"] * (len(runs) - 1),
    ]
    live.until("people are told", lambda: any("A training of the reranker failed" in text for text in _Hook.said))


def test_a_report_is_authenticated_kept_once_and_asks_a_person(live: Live) -> None:
    place = f"{live.url}/ragworks/alerts"
    report = {"key": "t1", "title": "Customers complain", "collection": NAME, "family": "embedder"}
    for path in ("alerts/plain", "alerts/nothing", ""):
        assert httpx.post(f"{live.url}/ragworks/{path}", json=report, trust_env=False).status_code in (401, 404)
    assert httpx.post(f"{place}/plain", json=report, trust_env=False).status_code == 401
    assert httpx.get(f"{live.url}/ragworks/openapi.json", trust_env=False).status_code == 404
    assert live.http.post(f"{place}/nothing", json=report).status_code == 404
    unknown = live.http.post(f"{place}/plain", json={**report, "collection": "wiki"})
    assert (unknown.status_code, "unknown collection 'wiki'" in unknown.json()["detail"]) == (422, True)
    assert "not JSON" in live.http.post(f"{place}/plain", content=b"{").json()["detail"]
    assert live.http.post(f"{place}/plain", content=b" " * 1_000_001).status_code == 413
    assert query(live.settings, "select count(*) from ragworks.alert") == [(0,)]

    replies = [live.http.post(f"{place}/plain", json=report).json() for _ in range(2)]
    assert replies == [{"reports": 1, "new": 1}, {"reports": 1, "new": 0}]
    monitor = f"monitor_{NAME}"
    [run] = live.until("the monitor runs", lambda: live.api.runs(monitor))
    place = f"/api/v2/dags/{monitor}/dagRuns/{run['dag_run_id']}/taskInstances"
    live.until("a person is asked", lambda: live.states(monitor, run["dag_run_id"]).get("approve") == "awaiting_input")
    asked = live.http.get(f"{place}/approve/-1/hitlDetails").json()
    assert asked["subject"] == "handbook: train embedder?"
    assert "reported by plain: Customers complain" in asked["body"]
    live.until("people are told", lambda: any("train embedder waits for your answer" in text for text in _Hook.said))
    [(number, state)] = query(live.settings, "select id, state from ragworks.decision where family = 'embedder'")
    assert state == "waiting"
    time.sleep(3)  # decision 0006
    live.api.answer(monitor, run["dag_run_id"], "approve", "Approve")
    assert live.over(number).run_key.startswith("train_embedder/")  # type: ignore[union-attr]
    assert live.decision(number).actor == "admin"
    assert live.runs(monitor, 1)[0]["state"] == "success"
    assert len(live.api.runs("train_embedder")) == 1


def test_sensors_wait_without_a_worker_over_a_restart_of_the_triggerer(live: Live) -> None:
    run = live.api.trigger("waiting", {})
    live.until("it waits", lambda: live.states("waiting", run).get("feedback") == "deferred")
    live.until("the other gave up", lambda: live.states("waiting", run)["fresh"] == "failed")
    home, environment = live.settings.home.absolute(), process_environment(live.settings)
    processes.stop(home, ["triggerer"])
    query_id = "with asked as (insert into ragworks.query_log (collection_id, kind) values (1, 'search') returning id) "
    query(live.settings, query_id + "insert into ragworks.feedback (query_id, thumb) select id, 1 from asked returning 1")
    assert live.states("waiting", run)["feedback"] == "deferred"
    processes.start(home, "triggerer", airflow.COMPONENTS["triggerer"], environment)
    live.until("it goes on", lambda: live.states("waiting", run)["feedback"] == "success")


def test_a_scheduler_that_is_restarted_in_the_middle_starts_one_training(live: Live) -> None:
    home, environment = live.settings.home.absolute(), process_environment(live.settings)
    before = len(live.api.runs("train_embedder"))
    processes.stop(home, ["scheduler"], patience=20)
    number = decide(live, "embedder")
    live.until("the triggerer claims it", lambda: live.decision(number).state == "claimed")
    processes.start(home, "scheduler", airflow.COMPONENTS["scheduler"], environment)
    assert live.over(number).run_key == f"train_embedder/{live.api.runs('train_embedder')[before]['dag_run_id']}"
    assert len(live.runs("train_embedder", before + 1)) == before + 1

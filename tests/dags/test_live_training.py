"""The whole way of a model under a running Airflow: form, data, training, gate, approval by REST, answers, and back."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml

from include.config import Settings
from include.evaluation.golden import read_golden, read_pair
from include.registry.promotion import roll_back_model
from include.retrieval.searcher import Searcher
from include.stack import airflow
from include.stack.api import FINAL, AirflowApi
from include.stack.environment import process_environment
from include.store import collections, golden
from include.store.pool import open_pool
from tests import llm_task, training_corpus
from tests.conftest import free_port
from tests.dags.events import send_event
from tests.support import query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME, DEPOT = "stations", "depot"
WAIT = 600  # seconds for a run on a machine that does other work too
# Short texts learn quickly; one measure of a station is told from the other seven after some sixty steps.
LEARN = {"epochs": 8, "batch_size": 16, "learning_rate": 3e-4, "max_length": 64, "dev_passages": 50}
ASKED = ("gorp at Alder", "alder-temperature")


class Live:
    """A running Airflow with one collection, its golden queries and files of training questions."""

    def __init__(self, settings: Settings, api: AirflowApi, files: dict[str, str]) -> None:
        self.settings, self.api, self.files = settings, api, files

    def run(self, dag_id: str, conf: dict[str, Any], choice: str = "") -> dict[str, str]:
        """Trigger, answer an approval with ``choice``, and give each task's state."""
        return self.follow(dag_id, self.api.trigger(dag_id, conf, patience=120), choice)

    def follow(self, dag_id: str, run_id: str, choice: str = "") -> dict[str, str]:
        states: dict[str, str] = {}
        told: set[str] = set()
        began = time.monotonic()
        while self.api.look(dag_id, run_id, told, lambda task, state, _: states.update({task: state})) not in FINAL:
            assert time.monotonic() - began < WAIT, states
            if choice and "gate" in told and self.api.task(dag_id, run_id, "approve")["state"] == "awaiting_input":
                # Airflow 3.3.2 fails a task that is answered in the moment in which it parks, and asks again: decision 0006.
                time.sleep(3)
                self.api.answer(dag_id, run_id, "approve", choice)
                choice = ""
            time.sleep(0.5)
        return states

    def best(self) -> tuple[str, dict[str, Any]]:
        """The document that a question in learned words finds, and the passport."""
        with open_pool(self.settings) as pool:
            [hit], passport = Searcher(self.settings, pool, NAME).search(ASKED[0], top_k=1)
        return hit.document, passport


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("training")
    files = training_corpus.write(folder)
    settings = Settings(
        home=folder / "home", collections_dir=folder / "collections", artifacts=(folder / "artifacts").as_uri(),
        llm_server=f"http://127.0.0.1:{free_port()}/v1",
    )  # fmt: skip
    settings.collections_dir.mkdir()
    content = {
        "name": NAME,
        "source": {"type": "jsonl", "path": files["documents"]},
        "embedding": {"model": "champion"},
        "retrieval": {"mode": "dense", "latency_budget_ms": 5000},
        "near_duplicates": {"threshold": None},  # reports of one station differ in a few words
    }
    task = llm_task.write(folder / DEPOT)
    depot = {
        "name": DEPOT,
        "source": {"type": "files", "path": str(task["documents"])},
        "retrieval": {"mode": "lexical"},
        "answers": llm_task.ANSWERS,
    }
    for one in (content, depot):
        (settings.collections_dir / f"{one['name']}.yaml").write_text(yaml.safe_dump(one))
    try:
        running = Live(settings, AirflowApi(airflow.up(settings, port=free_port(), progress=lambda line: None)), files)
        begun = {f"index_{name}": running.api.trigger(f"index_{name}", {}, patience=120) for name in (NAME, DEPOT)}
        for dag_id, run_id in begun.items():
            assert set(running.follow(dag_id, run_id).values()) <= {"success", "skipped"}
        with open_pool(settings) as pool, pool.connection() as connection:
            judged = read_pair(files["queries"], files["golden"])
            assert golden.save(connection, collections.collection_id(connection, NAME), judged) == 64
            asked = read_golden(str(task["golden"]))
            assert golden.save(connection, collections.collection_id(connection, DEPOT), asked) == llm_task.GOLDEN
        yield running
    finally:
        airflow.down(settings, progress=lambda line: None)


@pytest.mark.slow
def test_a_better_embedder_goes_live_after_a_click_and_comes_back_with_a_command(live: Live) -> None:
    conf = {"collection": NAME, "data_queries": live.files["queries"], "data_qrels": live.files["train"], **LEARN}
    assert live.best()[0] != ASKED[1]
    steps = live.run("train_embedder", conf, choice="Approve")
    steps.pop("close", None)  # a teardown: Airflow may call the run a success before it ends
    assert steps == dict.fromkeys(
        ("collection", "data", "check", "baseline", "train", "evaluate", "gate", "approve", "promote", "verify"), "success"
    ) | {"other_collections": "skipped"}
    [(version, state, gate, artifact, fingerprint)] = query(
        live.settings, "select version, state, gate, artifact, fingerprint from ragworks.model_run"
    )
    assert (version, state) == (1, "accepted")
    found, passport = live.best()
    assert found == ASKED[1]
    assert passport["embedder"] == {"model": artifact, "fingerprint": fingerprint}
    assert gate["accepted"]
    assert [page.suffix for page in (live.settings.home.parent / "artifacts" / "reports" / "embedder" / NAME).iterdir()] == [
        ".html"
    ]
    assert not list((live.settings.home.parent / "artifacts" / "checkpoints").glob("*/step-*"))

    with open_pool(live.settings) as pool:
        began = time.monotonic()
        roll_back_model(live.settings, pool, "embedder", collection=NAME)
        assert time.monotonic() - began < 5
    assert live.best()[1]["embedder"]["model"] == "all-MiniLM-L6-v2"

    again = live.run("train_embedder", conf)  # an event that came twice looks like this
    assert again["data"] == "skipped"
    assert query(live.settings, "select count(*) from ragworks.model_run") == [(1,)]


@pytest.mark.slow
@pytest.mark.thorough  # as test_live_monitoring.py has it for decisions
def test_events_that_come_twice_train_once(live: Live) -> None:
    known = query(live.settings, "select count(*) from ragworks.model_run where family = 'reranker'")
    assert known == [(0,)]
    for _ in range(2):
        send_event(live.api, "ragworks.reranker.retrain", {"collection": NAME})
    began = time.monotonic()
    while len(runs := live.api.runs("train_reranker")) < 1 or any(run["state"] not in FINAL for run in runs):
        assert time.monotonic() - began < WAIT, runs
        time.sleep(1)
    assert {run["run_type"] for run in runs} == {"asset_triggered"}
    assert query(live.settings, "select count(*) from ragworks.model_run where family = 'reranker'") == [(1,)]


@pytest.mark.slow
def test_a_language_model_learns_what_its_base_fails_answers_and_comes_back(live: Live) -> None:
    """The whole of `finetune_llm` with a model made on the spot; then chat completions are written by it."""
    folder = live.settings.home.parent
    base = llm_task.make_task_base(folder / "base")
    conf = {
        "collection": DEPOT, "base": str(base), "data_file": str(folder / DEPOT / "conversations.jsonl"), **llm_task.ARGUMENTS,
    }  # fmt: skip
    steps = live.run("finetune_llm", conf, choice="Approve")
    assert {name: state for name, state in steps.items() if state != "success"} == {"other_collections": "skipped"}, steps
    assert {"estimate", "baseline", "merge"} < set(steps)
    [(gate, training, loss)] = query(
        live.settings,
        "select gate, training, training -> 'loss' from ragworks.model_run where family = 'llm'",
    )
    assert gate["accepted"], gate["reasons"]
    assert loss[-1]["loss"] < loss[0]["loss"] / 2, training

    report, thing = llm_task.reports(1, seed=9)[0]
    with writing(live.settings) as ask:
        reply = ask(report)
        assert llm_task.DESKS[thing] in reply["choices"][0]["message"]["content"]
        passport = reply["passport"]["llm"]
        assert (passport["version"], passport["base"]) == (1, str(base))
        assert passport["adapter"]
        with open_pool(live.settings) as pool:
            roll_back_model(live.settings, pool, "llm", collection=DEPOT)
        time.sleep(3)  # a server looks for another champion every 2 s
        assert ask(report)["passport"]["llm"] is None


@contextmanager
def writing(settings: Settings) -> Iterator[Callable[[str], dict[str, Any]]]:
    """`ragworks serve-llm` and `ragworks serve`: what chat completions say to a question."""
    environment = process_environment(settings) | {"RAGWORKS_LLM_SERVER": settings.llm_server}
    port, writer = free_port(), str(httpx.URL(settings.llm_server).port)
    commands = (["serve-llm", "--port", writer], ["serve", "--port", str(port), "--no-auth"])
    processes = [subprocess.Popen([sys.executable, "-m", "include", *one], env=environment) for one in commands]

    def ask(question: str) -> dict[str, Any]:
        body = {"model": DEPOT, "messages": [{"role": "user", "content": question}]}
        reply = httpx.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body, timeout=60, trust_env=False)
        return dict(reply.raise_for_status().json())

    try:
        for url in (f"http://127.0.0.1:{port}/readyz", settings.llm_server.replace("/v1", "/readyz")):
            wait_for(url)
        yield ask
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(30)


def wait_for(url: str) -> None:
    """Until a server is ready."""
    began = time.monotonic()
    while True:
        with suppress(httpx.TransportError):
            if httpx.get(url, trust_env=False).is_success:
                return
        assert time.monotonic() - began < 120, url
        time.sleep(0.3)

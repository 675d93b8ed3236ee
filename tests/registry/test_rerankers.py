"""A reranker goes to work and out of it while searches go on, with its row in the table of deployments."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from include.config import PROJECT_ROOT, Settings
from include.errors import BadConfiguration, BadData, Transient
from include.evaluation.contenders import serving_now
from include.registry import champions, promotion, verification
from include.registry.promotion import promote
from include.registry.rollback import roll_back_model
from include.registry.verification import verify
from include.retrieval.query import Query
from include.retrieval.searcher import Searcher
from include.serving.options import Options
from include.store import collections, deployments, model_runs
from tests.registry.conftest import version
from tests.serving.conftest import make_key, running
from tests.support import query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from include.store.deployments import Deployment
    from include.store.pool import Pool

QUESTION = "where otters sleep, part of what is said of bees and bread"


@pytest.fixture(autouse=True)
def _quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(champions, "LOOK_SECONDS", 0.1)


def _passport(settings: Settings, pool: Pool, **options: Any) -> Any:
    return Searcher(settings, pool, "handbook").find(Query(QUESTION, **options)).passport["reranker"]


def _serves(settings: Settings, pool: Pool, wanted: str | None, seconds: float = 30) -> Any:
    """Search until it does."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        found = _passport(settings, pool)
        if (found["model"] if found else None) == wanted:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{wanted} does not serve, but {found}")


def _promote(settings: Settings, pool: Pool, number: int, **options: Any) -> dict[str, Any]:
    return promote(settings, pool, "reranker", number, collection="handbook", actor="tests", reason="a test", **options)


def _back(settings: Settings, pool: Pool, **options: Any) -> dict[str, Any]:
    return roll_back_model(settings, pool, "reranker", collection="handbook", actor="tests", **options)


def _history(settings: Settings, pool: Pool) -> list[Deployment]:
    with pool.connection() as connection:
        collection = collections.collection_id(connection, "handbook")
        return deployments.history(connection, settings.environment, "reranker", collection)


@pytest.mark.usefixtures("handbook")
def test_there_and_back(settings: Settings, pool: Pool, rerankers: list[Path]) -> None:
    """The whole way: none, first, second, first, second; each search names the model that it was ranked by."""
    searcher = Searcher(settings, pool, "handbook")
    assert searcher.find(Query(QUESTION)).passport["reranker"] is None
    with pytest.raises(BadConfiguration, match="handbook has no reranker"):
        searcher.find(Query(QUESTION, rerank=True))
    first = version(settings, pool, "reranker", rerankers[0], key="train_reranker/1", weight=0.3)
    second = version(settings, pool, "reranker", rerankers[1], key="train_reranker/2")
    assert (first, second) == (1, 2)
    result = _promote(settings, pool, first)
    assert (result["version"], result["replaced"], result["changed"]) == (1, None, True)
    found = _serves(settings, pool, "reranker 1")
    assert (found["version"], found["weight"]) == (1, 0.3)
    assert found["candidates"] > 1
    assert verify(settings, pool, "reranker", "handbook")["ok"]
    before = found["fingerprint"]
    assert _promote(settings, pool, second)["replaced"] == 1
    found = _serves(settings, pool, "reranker 2")
    assert (found["weight"], found["fingerprint"] == before) == (0.5, False)
    for wanted, replaced in ((1, 2), (2, 1), (1, 2)):
        result = _back(settings, pool)
        assert (result["version"], result["replaced"]) == (wanted, replaced)
        assert result["seconds"] < 1
        _serves(settings, pool, f"reranker {wanted}")
    states = [(one.version, one.action, one.state) for one in reversed(_history(settings, pool))]
    assert states[:2] == [(1, "promote", "replaced"), (2, "promote", "replaced")]
    assert states[-1] == (1, "rollback", "live")
    assert [one.verification is not None for one in reversed(_history(settings, pool))][:2] == [True, False]


@pytest.mark.usefixtures("handbook")
def test_back_from_the_first_is_to_none(settings: Settings, pool: Pool, rerankers: list[Path]) -> None:
    with pytest.raises(BadData, match="no reranker of handbook was promoted in production"):
        _back(settings, pool)
    _promote(settings, pool, version(settings, pool, "reranker", rerankers[0], key="k1"))
    _serves(settings, pool, "reranker 1")
    assert _back(settings, pool)["version"] is None
    _serves(settings, pool, None)
    with pytest.raises(BadData, match="nothing to verify"):
        verify(settings, pool, "reranker", "handbook")
    assert _back(settings, pool)["version"] == 1
    _serves(settings, pool, "reranker 1")


@pytest.mark.usefixtures("handbook")
def test_twice_and_two_at_once(settings: Settings, pool: Pool, rerankers: list[Path]) -> None:
    first = version(settings, pool, "reranker", rerankers[0], key="k1")
    second = version(settings, pool, "reranker", rerankers[1], key="k2")
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda _: _promote(settings, pool, first), range(4)))
    assert sorted(r["changed"] for r in results) == [False, False, False, True]
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda n: _promote(settings, pool, n), [first, second] * 3))
    history = _history(settings, pool)
    assert [one.state for one in history].count("live") == 1
    for later, earlier in pairwise(history):
        assert later.replaces == earlier.id
        assert later.version != earlier.version


@pytest.mark.usefixtures("handbook")
def test_a_winner_over_another_champion_is_not_promoted(
    settings: Settings, pool: Pool, rerankers: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two won against what served, and a person approves of both: the second was never compared with the first."""
    won = {"challenger": {}, "serving": serving_now(settings, pool, "handbook")}
    first, second = (
        version(settings, pool, "reranker", folder, key=f"k{n}", evaluation=won) for n, folder in enumerate(rerankers)
    )
    assert _promote(settings, pool, first, as_compared=True)["changed"]
    assert not _promote(settings, pool, first, as_compared=True)["changed"]  # it serves: a retry
    _serves(settings, pool, "reranker 1")
    with pytest.raises(BadData, match=r"what serves is not what it was compared with.*Evaluate it again"):
        _promote(settings, pool, second, as_compared=True)
    assert [one.version for one in _history(settings, pool)] == [1]
    monkeypatch.setattr(promotion, "require_compared", lambda *_: _back(settings, pool))  # another, between look and lock
    with pytest.raises(Transient, match="another was, at the same time"):
        _promote(settings, pool, second, as_compared=True)
    assert _promote(settings, pool, second)["replaced"] is None  # as a person may want


@pytest.mark.usefixtures("handbook")
def test_nothing_is_promoted_beside_an_embedder_that_is_not_live_yet(
    settings: Settings, pool: Pool, rerankers: list[Path]
) -> None:
    won = {"challenger": {}, "serving": serving_now(settings, pool, "handbook")}
    embedder = version(settings, pool, "embedder", rerankers[0], key="e", evaluation=won)
    number = version(settings, pool, "reranker", rerankers[1], key="k", evaluation=won)
    with pool.connection() as connection:
        run = model_runs.by_key(connection, "e")
        waiting = deployments.begin(
            connection, "production", "embedder", run.collection_id, model_run=run.id, version=embedder, settings={}
        )
    with pytest.raises(Transient, match="embedder 1 is being promoted, which it was not compared with"):
        _promote(settings, pool, number, as_compared=True)
    with pool.connection() as connection:
        deployments.fail(connection, waiting.id, "refused")
    assert _promote(settings, pool, number, as_compared=True)["changed"]


@pytest.mark.usefixtures("handbook")
def test_only_the_model_that_was_promoted_is_verified(settings: Settings, pool: Pool, rerankers: list[Path]) -> None:
    """Taken back, and the task killed before it could say so: its retry does not pass by the model before."""
    first, second = (version(settings, pool, "reranker", folder, key=f"k{n}") for n, folder in enumerate(rerankers))
    with pool.connection() as connection:
        runs = [model_runs.by_key(connection, f"k{n}").id for n in range(2)]
    _promote(settings, pool, first)
    assert verify(settings, pool, "reranker", "handbook", run=runs[0])["ok"]
    with pytest.raises(BadData, match="cannot be verified: it was never promoted"):
        verify(settings, pool, "reranker", "handbook", run=runs[1])
    _promote(settings, pool, second)
    with pool.connection() as connection:
        deployments.save_verification(connection, _history(settings, pool)[0].id, {"problems": ["7 of 16 found nothing"]})
    _back(settings, pool, ended="failed")
    with pytest.raises(BadData, match="reranker 2 of handbook does not serve: it is failed: 7 of 16 found nothing"):
        verify(settings, pool, "reranker", "handbook", run=runs[1])


@pytest.mark.usefixtures("handbook")
def test_only_the_proved(settings: Settings, pool: Pool, rerankers: list[Path]) -> None:
    refused = version(settings, pool, "reranker", rerankers[0], key="k1", state="refused")
    unjudged = version(settings, pool, "reranker", rerankers[1], key="k2", state="trained", gate=None)
    with pytest.raises(BadData, match=r"reranker 1 was not accepted by the gate: nDCG@10 is lower by 0.1"):
        _promote(settings, pool, refused)
    with pytest.raises(BadData, match="its training is trained: nothing was compared"):
        _promote(settings, pool, unjudged)
    with pytest.raises(BadData, match="reranker has no version 9 in production"):
        _promote(settings, pool, 9)
    assert _history(settings, pool) == []
    assert _promote(settings, pool, refused, unproved=True)["unproved"]
    assert _history(settings, pool)[0].settings["unproved"] is True
    _serves(settings, pool, "reranker 1")


@pytest.mark.usefixtures("pages")
def test_a_collection_that_asks_for_no_champion(
    settings: Settings, pool: Pool, rerankers: list[Path], handbook: str, collection: Callable[..., str]
) -> None:
    number = version(settings, pool, "reranker", rerankers[0], key="k1")
    collection(retrieval={"reranker": None})
    with pytest.raises(BadConfiguration, match=r"retrieval.reranker is null, so no champion would be used"):
        _promote(settings, pool, number)


@pytest.mark.usefixtures("handbook")
def test_environments_do_not_meet(settings: Settings, pool: Pool, rerankers: list[Path]) -> None:
    staging = settings.model_copy(update={"environment": "staging"})
    version(staging, pool, "reranker", rerankers[0], key="k0")
    number = version(staging, pool, "reranker", rerankers[1], key="k1")
    assert number == 2
    _promote(staging, pool, number)
    _serves(staging, pool, "reranker 2")
    assert _passport(settings, pool) is None
    with pytest.raises(BadData, match="no version 2 in production"):
        _promote(settings, pool, 2)
    from include.registry.promotion import copy_version

    here = copy_version(settings, pool, "reranker", 2, collection="handbook", source="staging")
    assert here == 1
    assert copy_version(settings, pool, "reranker", 2, collection="handbook", source="staging") == 1
    _promote(settings, pool, here)
    assert _serves(settings, pool, "reranker 1")["fingerprint"] == _passport(staging, pool)["fingerprint"]


@pytest.mark.usefixtures("handbook")
def test_a_model_that_does_not_open_is_not_promoted(
    settings: Settings, pool: Pool, rerankers: list[Path], tmp_path: Path
) -> None:
    good = version(settings, pool, "reranker", rerankers[0], key="k1")
    _promote(settings, pool, good)
    _serves(settings, pool, "reranker 1")
    shutil.copytree(rerankers[1], tmp_path / "torn")
    weights = tmp_path / "torn" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    torn = version(settings, pool, "reranker", tmp_path / "torn", key="k2")
    with pytest.raises(BadData, match="reranker 2 does not open"):
        _promote(settings, pool, torn)
    tampered = version(settings, pool, "reranker", rerankers[1], key="k3")
    _file(settings, pool, "k3").write_text("{}")
    with pytest.raises(BadData, match="was changed"):
        _promote(settings, pool, tampered)
    assert [one.version for one in _history(settings, pool)] == [1]
    _serves(settings, pool, "reranker 1")


@pytest.mark.usefixtures("handbook")
def test_the_one_before_goes_on_when_a_champion_is_gone(
    settings: Settings, pool: Pool, rerankers: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Its artifact vanishes before this process has loaded it: that is said once, and verification takes it back."""
    first = version(settings, pool, "reranker", rerankers[0], key="k1")
    second = version(settings, pool, "reranker", rerankers[1], key="k2")
    _promote(settings, pool, first)
    _serves(settings, pool, "reranker 1")
    folder = _file(settings, pool, "k2").parent
    elsewhere = settings.model_copy(update={"home": settings.home / "elsewhere"})  # another process: nothing is loaded there
    _promote(elsewhere, pool, second)
    shutil.rmtree(folder)
    from include.registry import artifacts

    artifacts._local_folder.cache_clear()
    caplog.set_level(logging.ERROR)
    ends = time.monotonic() + 1.5
    while time.monotonic() < ends:
        assert _passport(settings, pool)["model"] == "reranker 1"
        time.sleep(0.05)
    assert sum("reranker 2 cannot be opened, reranker 1 goes on" in message for message in caplog.messages) == 1
    with pytest.raises(BadData, match=r"reranker 2 of handbook failed .*there is no artifact.* version 1 serves again"):
        verify(settings, pool, "reranker", "handbook")
    assert [(one.version, one.state) for one in _history(settings, pool)] == [(1, "live"), (2, "failed"), (1, "replaced")]
    _serves(settings, pool, "reranker 1")


@pytest.mark.usefixtures("handbook")
def test_a_new_process_without_its_model_searches_all_the_same(settings: Settings, pool: Pool, rerankers: list[Path]) -> None:
    _promote(settings, pool, version(settings, pool, "reranker", rerankers[0], key="k1"))
    shutil.rmtree(_file(settings, pool, "k1").parent)
    from include.registry import artifacts

    artifacts._local_folder.cache_clear()
    fresh = settings.model_copy(update={"home": settings.home / "fresh"})
    assert _passport(fresh, pool) is None
    with pytest.raises(BadConfiguration, match="no champion has been promoted that could be opened"):
        _passport(fresh, pool, rerank=True)


@pytest.mark.usefixtures("handbook")
def test_what_fails_its_questions_is_taken_back(
    settings: Settings, pool: Pool, rerankers: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = version(settings, pool, "reranker", rerankers[0], key="k1")
    second = version(settings, pool, "reranker", rerankers[1], key="k2")
    _promote(settings, pool, first)
    _promote(settings, pool, second)
    monkeypatch.setattr(verification, "TIMES_BUDGET", 1e-6)
    with pytest.raises(BadData, match=r"95 of 100 searches took .* It was taken back: version 1 serves again"):
        verify(settings, pool, "reranker", "handbook")
    history = _history(settings, pool)
    assert [(one.version, one.action, one.state) for one in history] == [
        (1, "rollback", "live"), (2, "promote", "failed"), (1, "promote", "replaced"),
    ]  # fmt: skip
    assert history[1].verification is not None
    assert history[1].verification["ok"] is False
    assert history[1].verification["origin"] == "headings"
    assert _back(settings, pool)["version"] is None  # not to what failed


def test_the_running_server_takes_it_up(settings: Settings, pool: Pool, handbook: str, rerankers: list[Path]) -> None:
    """Two clients ask all the time: no error, none waits for the model, and each answer names one reranker."""
    numbers = [version(settings, pool, "reranker", folder, key=f"k{n}") for n, folder in enumerate(rerankers)]
    key = make_key(settings, "user")
    with running(settings, Options(port=0, threads=4)) as (url, _), _asking(url, key) as answers:
        _until(answers, None)
        began = time.monotonic()
        _promote(settings, pool, numbers[0])
        _until(answers, "reranker 1")
        _promote(settings, pool, numbers[1])
        _until(answers, "reranker 2")
        _back(settings, pool)
        _until(answers, "reranker 1")
        elapsed = time.monotonic() - began
    assert {status for status, _, _ in answers} == {200}
    order = [name for _, name, _ in answers]
    changes = [name for before, name in zip([object(), *order], order, strict=False) if name != before]
    assert len(changes) <= 4 + 6  # two clients may see a change in turn
    slowest = max(seconds for _, name, seconds in answers if name is None)
    assert slowest < 3, f"{slowest:.1f} s while the first one was loaded, of {elapsed:.1f} s"


@contextmanager
def _asking(url: str, key: str) -> Iterator[list[tuple[int, str | None, float]]]:
    answers: list[tuple[int, str | None, float]] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as http:
            while not stop.is_set():
                started = time.monotonic()
                reply = http.post("/v1/search", json={"collection": "handbook", "query": QUESTION, "top_k": 3})
                part = reply.json().get("passport", {}).get("reranker")
                answers.append((reply.status_code, part["model"] if part else None, time.monotonic() - started))
                time.sleep(0.02)

    clients = [threading.Thread(target=ask) for _ in range(2)]
    for client in clients:
        client.start()
    try:
        yield answers
    finally:
        stop.set()
        for client in clients:
            client.join()


def _until(answers: list[tuple[int, str | None, float]], name: str | None) -> None:
    seen, ends = len(answers), time.monotonic() + 60
    while time.monotonic() < ends:
        if any(one[1] == name for one in answers[seen:]):
            return
        time.sleep(0.05)
    raise AssertionError(f"{name} never answered")


def test_serving_never_imports_mlflow() -> None:
    code = (
        "import sys, include.serving.app, include.registry.champions, include.retrieval.searcher, include.indexing.pipeline;"
        "assert not {'mlflow', 'torch'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PROJECT_ROOT, timeout=60)


def _file(settings: Settings, pool: Pool, key: str) -> Path:
    """A file of a training's artifact."""
    ((artifact,),) = query(settings, "select artifact from ragworks.model_run where run_key = %s", key)
    return settings.home / "artifacts" / str(artifact).removeprefix("artifacts:") / "config.json"

"""An embedder goes to work through an index of its own: gated, swapped, and only then asked; and out of it at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from include.config import PROJECT_ROOT, Settings
from include.errors import BadConfiguration, BadData, Transient
from include.indexing.activate import activate, rollback
from include.registry import embedder_promotion
from include.registry.promotion import promote
from include.registry.rollback import roll_back_model
from include.registry.verification import verify
from include.retrieval.query import Query
from include.retrieval.searcher import Searcher
from include.serving.app import create_app
from include.serving.options import Options
from include.serving.server import Server
from include.serving.service import open_service
from include.store import collections, deployed_embedders, deployments, golden
from include.store.golden import GoldenQuery, GoldenSpan
from tests.registry.conftest import PARAPHRASES, version
from tests.serving.conftest import make_key
from tests.support import assert_same_index, export, index, query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from include.store.deployments import Deployment
    from include.store.pool import Pool

QUESTION = "where do otters sleep?"
CHAMPION = {"embedding": {"model": "champion"}, "retrieval": {"reranker": None, "latency_budget_ms": 20_000}}


@pytest.fixture
def live(settings: Settings, pages: Path, collection: Callable[..., str]) -> int:
    """A collection whose embedder is the champion: the base, as none was promoted; its generation."""
    collection(**CHAMPION)
    return int(index(settings, "handbook")["generation"])


def _promote(settings: Settings, pool: Pool, number: int, **options: Any) -> dict[str, Any]:
    return promote(settings, pool, "embedder", number, collection="handbook", actor="tests", **options)


def _back(settings: Settings, pool: Pool) -> dict[str, Any]:
    return roll_back_model(settings, pool, "embedder", collection="handbook", actor="tests")


def _history(settings: Settings, pool: Pool) -> list[Deployment]:
    with pool.connection() as connection:
        collection = collections.collection_id(connection, "handbook")
        return deployments.history(connection, settings.environment, "embedder", collection)


def _states(settings: Settings, pool: Pool) -> list[tuple[int | None, str, str]]:
    return [(one.version, one.action, one.state) for one in reversed(_history(settings, pool))]


def _generations(settings: Settings) -> list[tuple[int, str, str]]:
    return query(settings, "select id, state, spec->'embedding'->>'model' from ragworks.generation order by id")  # type: ignore[return-value]


def _live(settings: Settings) -> tuple[int, str]:
    ((number, model),) = [(g, model) for g, state, model in _generations(settings) if state == "live"]
    return number, model


def test_there_and_back(live: int, settings: Settings, pool: Pool, embedders: dict[str, Path]) -> None:
    """Base, first, base, first; each by the index of its own, no word "champion" in any, nothing embedded on the way back."""
    assert _generations(settings) == [(live, "live", "all-MiniLM-L6-v2")]
    number = version(settings, pool, "embedder", embedders["first"], key="k1")
    before = export(settings, "handbook")
    result = _promote(settings, pool, number)
    assert (result["changed"], result["replaced"], result["embedded"]) == (True, None, len({row["text"] for row in before}))
    generation, model = _live(settings)
    assert generation == result["generation"] != live
    assert model.startswith("artifacts:models/embedder/handbook/")
    assert verify(settings, pool, "embedder", "handbook")["ok"]
    found = Searcher(settings, pool, "handbook").find(Query(QUESTION))
    assert (found.passport["generation"], found.passport["embedder"]["model"]) == (generation, model)
    assert index(settings, "handbook")["chunks"]["embedded"] == 0  # the next run agrees
    assert _promote(settings, pool, number)["changed"] is False
    result = _back(settings, pool)
    assert (result["version"], result["replaced"], result["generation"]) == (None, 1, live)
    assert result["seconds"] < 1
    assert export(settings, "handbook") == before
    again = index(settings, "handbook")
    assert (again["generation"], again["chunks"]["embedded"], again.get("note")) == (live, 0, None)
    result = _back(settings, pool)
    assert (result["version"], result["generation"]) == (1, generation)
    assert _states(settings, pool) == [
        (1, "promote", "replaced"), (None, "rollback", "replaced"), (1, "rollback", "live"),
    ]  # fmt: skip
    assert _back(settings, pool)["version"] is None
    result = _promote(settings, pool, number)  # a person asks for what was left: it is not held
    assert (result["changed"], result["embedded"]) == (True, 0)


def test_who_follows_whom(live: int, settings: Settings, pool: Pool, embedders: dict[str, Path]) -> None:
    """A person who puts another generation into service deploys the embedder that made it."""
    _promote(settings, pool, version(settings, pool, "embedder", embedders["first"], key="k1"))
    promoted, _ = _live(settings)
    rollback(pool, "handbook")
    assert _states(settings, pool)[-1] == (None, "rollback", "live")
    assert index(settings, "handbook")["generation"] == live
    activate(pool, "handbook", promoted)
    assert _states(settings, pool)[-1] == (1, "rollback", "live")
    assert index(settings, "handbook")["generation"] == promoted


def test_an_index_that_was_dropped(
    live: int, settings: Settings, pool: Pool, embedders: dict[str, Path], collection: Callable[..., str]
) -> None:
    collection(**CHAMPION, generations={"keep": 0})
    _promote(settings, pool, version(settings, pool, "embedder", embedders["first"], key="k1"))
    assert [state for _, state, _ in _generations(settings)] == ["live"]
    with pytest.raises(BadData, match=r"handbook cannot go back at once: the index of the base model was dropped"):
        _back(settings, pool)
    assert _states(settings, pool) == [(1, "promote", "live")]


def test_the_collection_file_must_ask_for_it(
    settings: Settings, pool: Pool, pages: Path, collection: Callable[..., str], embedders: dict[str, Path]
) -> None:
    collection()
    index(settings, "handbook")
    number = version(settings, pool, "embedder", embedders["first"], key="k1")
    with pytest.raises(BadConfiguration, match=r"embedding.model is 'all-MiniLM-L6-v2', not 'champion'. Set embedding.model"):
        _promote(settings, pool, number)


def test_refused_by_the_generation_gate(live: int, settings: Settings, pool: Pool, embedders: dict[str, Path]) -> None:
    """The promotion has failed with the reason, the old one stays, later runs do not try again, a person may."""
    with pool.connection() as connection:
        asked = [GoldenQuery(text, (GoldenSpan(f"{name}.md"),)) for name, text in PARAPHRASES.items()]
        golden.save(connection, collections.collection_id(connection, "handbook"), asked)
    number = version(settings, pool, "embedder", embedders["broken"], key="k1")
    with pytest.raises(BadData, match="is worse than the live one"):
        _promote(settings, pool, number)
    assert _live(settings) == (live, "all-MiniLM-L6-v2")
    (failed,) = _history(settings, pool)
    assert (failed.state, failed.version) == ("failed", 1)
    assert "the quality gate refused its index" in failed.reason
    for _ in range(2):
        again = index(settings, "handbook")
        assert (again["generation"], again["chunks"]["embedded"], again.get("note")) == (live, 0, None)
    with pytest.raises(BadData, match="is worse than the live one"):
        _promote(settings, pool, number)
    refused = max(number for number, state, _ in _generations(settings) if state == "failed")
    activate(pool, "handbook", refused)
    assert _states(settings, pool)[-1] == (1, "promote", "live")
    assert index(settings, "handbook")["generation"] == refused


def test_what_fails_its_questions_is_taken_back(
    live: int, settings: Settings, pool: Pool, embedders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _promote(settings, pool, version(settings, pool, "embedder", embedders["first"], key="k1"))
    query(settings, "update ragworks.chunks_2 set embedding = (select embedding from ragworks.chunks_1 limit 1) returning 1")
    with pytest.raises(BadData, match=r"cosine distance .* what served before any was trained serves again"):
        verify(settings, pool, "embedder", "handbook")
    assert _live(settings)[0] == live
    assert _states(settings, pool) == [(1, "promote", "failed"), (None, "rollback", "live")]
    with pytest.raises(BadData, match="nothing to verify"):
        verify(settings, pool, "embedder", "handbook")
    assert index(settings, "handbook")["generation"] == live


def test_one_at_a_time(
    live: int, settings: Settings, pool: Pool, embedders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one is promoted another promotion, and a rollback, are told to come again; the same one is done once."""
    first = version(settings, pool, "embedder", embedders["first"], key="k1")
    second = version(settings, pool, "embedder", embedders["second"], key="k2")
    building, go_on = threading.Event(), threading.Event()
    original = embedder_promotion.index_collection

    def slow(*args: Any, **options: Any) -> Any:
        building.set()
        assert go_on.wait(120)
        return original(*args, **options)

    monkeypatch.setattr(embedder_promotion, "index_collection", slow)
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(_promote(settings, pool, first)))
    thread.start()
    assert building.wait(120)
    for other in (first, second):
        with pytest.raises(Transient, match="another embedder of handbook is being promoted"):
            _promote(settings, pool, other)
    with pytest.raises(Transient, match="an embedder of handbook is being promoted"):
        _back(settings, pool)
    assert _states(settings, pool) == [(1, "promote", "pending")]
    monkeypatch.setattr(embedder_promotion, "index_collection", original)
    scheduled = index(settings, "handbook")  # a run of the collection that starts meanwhile does the work
    go_on.set()
    thread.join(300)
    assert _live(settings)[0] == scheduled["generation"] == results[0]["generation"]
    assert _states(settings, pool) == [(1, "promote", "live")]
    assert query(settings, "select count(*) from ragworks.generation where state in ('live', 'building')") == [(1,)]


POINTS = {
    "before the plan": ("include.indexing.pipeline", "plan_run", "before"),
    "while it embeds": ("include.embedding.local.LocalEmbedder", "embed_documents", "after"),
    "before the swap": ("include.indexing.publish", "_publish_once", "before"),
    "after the swap": ("include.indexing.publish", "_publish_once", "after"),
}


@pytest.mark.parametrize(
    "point",
    [pytest.param(point, marks=[] if point == "before the swap" else [pytest.mark.thorough]) for point in POINTS],
)
def test_killed_on_the_way(
    point: str, live: int, settings: Settings, pool: Pool, embedders: dict[str, Path], environment: dict[str, str],
    collection: Callable[..., str],
) -> None:  # fmt: skip
    """kill -9: the old index answers, and whoever comes next, a promotion or a run, ends what was begun."""
    number = version(settings, pool, "embedder", embedders["first"], key="k1")
    _killed_promotion(number, point, settings, environment)
    done = point == "after the swap"
    assert _states(settings, pool) == [(1, "promote", "live" if done else "pending")]
    assert (_live(settings)[0] == live) is not done
    assert Searcher(settings, pool, "handbook").find(Query(QUESTION)).hits
    if point == "while it embeds":
        index(settings, "handbook")
    else:
        assert _promote(settings, pool, number)["changed"] is not done
    assert _states(settings, pool) == [(1, "promote", "live")]
    assert _live(settings)[1].startswith("artifacts:")
    assert verify(settings, pool, "embedder", "handbook")["ok"]
    promoted = export(settings, "handbook")
    collection("scratch", **{**CHAMPION, "embedding": {"model": _live(settings)[1]}})
    index(settings, "scratch")
    assert_same_index(promoted, export(settings, "scratch"))


def test_a_promotion_that_nobody_ends_is_given_up(
    live: int, settings: Settings, pool: Pool, embedders: dict[str, Path], environment: dict[str, str]
) -> None:
    first = version(settings, pool, "embedder", embedders["first"], key="k1")
    _killed_promotion(first, "before the plan", settings, environment)
    assert _back(settings, pool)["cancelled"] == 1
    assert _states(settings, pool) == [(1, "promote", "failed")]
    assert index(settings, "handbook")["generation"] == live
    _killed_promotion(first, "before the plan", settings, environment)
    _promote(settings, pool, version(settings, pool, "embedder", embedders["second"], key="k2"))
    assert _states(settings, pool)[1:] == [(1, "promote", "failed"), (2, "promote", "live")]


def test_a_row_that_missed_its_swap(live: int, settings: Settings, pool: Pool, embedders: dict[str, Path]) -> None:
    """State decides: pending beside an index that is live is live."""
    _promote(settings, pool, version(settings, pool, "embedder", embedders["first"], key="k1"))
    query(settings, "update ragworks.deployment set state = 'pending', replaces = null returning id")
    with pool.connection() as connection:
        deployed_embedders.follow_index(connection, collections.collection_id(connection, "handbook"))
    assert _states(settings, pool) == [(1, "promote", "live")]


def test_two_environments_on_one_index(live: int, settings: Settings, pool: Pool, embedders: dict[str, Path]) -> None:
    staging = settings.model_copy(update={"environment": "staging"})
    _promote(staging, pool, version(staging, pool, "embedder", embedders["first"], key="k1"))
    number = version(settings, pool, "embedder", embedders["second"], key="k2")
    with pytest.raises(BadConfiguration, match="its one index serves staging with embedder 1"):
        _promote(settings, pool, number)
    same = version(settings, pool, "embedder", embedders["first"], key="k1")
    generation = _live(settings)[0]
    assert _promote(settings, pool, same)["generation"] == generation


def test_questions_while_it_is_promoted(live: int, settings: Settings, pool: Pool, embedders: dict[str, Path]) -> None:
    """A server is asked all the time: no error, and every score is of one model and the vectors that this model made."""
    number = version(settings, pool, "embedder", embedders["first"], key="k1")
    expected = {_fingerprint(settings): _scores(settings, pool)}
    key = make_key(settings, "user")
    with _running(settings) as url, _asking(url, key) as answers:
        while len(answers) < 5:
            time.sleep(0.1)
        _promote(settings, pool, number)
        expected[_fingerprint(settings)] = _scores(settings, pool)
        _answered_by(answers, _fingerprint(settings))
        _back(settings, pool)
        _answered_by(answers, _fingerprint(settings))
    assert len(expected) == 2
    assert {status for status, _ in answers} == {200}
    seen = set()
    for body in (body for _, body in answers):
        fingerprint = body["passport"]["embedder"]["fingerprint"]
        seen.add(fingerprint)
        assert [hit["score"] for hit in body["results"]] == pytest.approx(expected[fingerprint], abs=2e-3)
    assert seen == expected.keys()
    first, second = expected.values()
    assert first != pytest.approx(second, abs=2e-3)


def _fingerprint(settings: Settings) -> str:
    return str(query(settings, "select embedder from ragworks.generation where state = 'live'")[0][0])


def _scores(settings: Settings, pool: Pool) -> list[float]:
    return [hit.score for hit in Searcher(settings, pool, "handbook").find(Query(QUESTION, top_k=3, mode="dense")).hits]


def _answered_by(answers: list[tuple[int, Any]], fingerprint: str) -> None:
    seen, ends = len(answers), time.monotonic() + 60
    while time.monotonic() < ends:
        if any(body["passport"]["embedder"]["fingerprint"] == fingerprint for _, body in answers[seen:]):
            return
        time.sleep(0.05)
    raise AssertionError("the new model never answered")


@contextmanager
def _running(settings: Settings) -> Iterator[str]:
    options = Options(port=0, threads=2)
    with open_service(settings, options) as service:
        listening = threading.Event()
        server = Server(create_app(service), options, lambda _: listening.set())
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        assert listening.wait(30)
        yield server.url
        server.should_exit = True
        thread.join(30)


@contextmanager
def _asking(url: str, key: str) -> Iterator[list[tuple[int, Any]]]:
    answers: list[tuple[int, Any]] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as http:
            while not stop.is_set():
                body = {"collection": "handbook", "query": QUESTION, "top_k": 3, "mode": "dense"}
                reply = http.post("/v1/search", json=body)
                answers.append((reply.status_code, reply.json()))
                time.sleep(0.05)

    clients = [threading.Thread(target=ask) for _ in range(2)]
    for client in clients:
        client.start()
    try:
        yield answers
    finally:
        stop.set()
        for client in clients:
            client.join()


def _killed_promotion(number: int, point: str, settings: Settings, environment: dict[str, str]) -> None:
    where, name, when = POINTS[point]
    module = where.removesuffix(".LocalEmbedder")
    code = f"""
import importlib, os, signal
from include.config import Settings
from include.store.pool import open_pool
from include.registry.promotion import promote
module = importlib.import_module({module!r})
owner = module.LocalEmbedder if {where.endswith("LocalEmbedder")} else module
original = getattr(owner, {name!r})
def deadly(*args, **options):
    result = None if {when == "before"} else original(*args, **options)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(owner, {name!r}, deadly)
settings = Settings.from_environment()
with open_pool(settings) as pool:
    promote(settings, pool, "embedder", {number}, collection="handbook")
"""
    told = environment | {"RAGWORKS_ARTIFACTS": settings.artifacts, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, env=told, timeout=300, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr

"""Promise 3: kill -9 at any point, run again: promise 1 holds, and at every instant the live generation answered."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from include.indexing import merge, publish, worker
from include.retrieval.searcher import Searcher
from include.store.pool import open_pool
from tests.support import HashEmbedder, assert_same_index, export, index, query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from include.config import Settings

DOCUMENTS = 150


def _fill(folder: Path, seed: int, documents: int = DOCUMENTS) -> None:
    """Documents of which a third differs between two seeds; some come, some go."""
    for number in range(documents):
        version = seed if number % 3 == 0 else 0
        path = folder / f"{number}.md"
        if number % 20 == seed % 20:
            path.unlink(missing_ok=True)
            continue
        sentences = [f"Document {number} in version {version} says {i * number} about topic {i}." for i in range(30)]
        path.write_text(f"# Page {number}\n\n" + "\n\n".join(sentences))


@contextmanager
def _queries(settings: Settings) -> Iterator[list[tuple[int, int]]]:
    """Searches all the time, as a service would; each answer is (hits, generation)."""
    answers: list[tuple[int, int]] = []
    errors: list[Exception] = []
    stop = threading.Event()

    def loop() -> None:
        with open_pool(settings) as pool:
            searcher = Searcher(settings, pool, "handbook", embedder=HashEmbedder())
            while not stop.is_set():
                try:
                    hits, passport = searcher.search("topic", top_k=5)
                    answers.append((len(hits), passport["generation"]))
                except Exception as error:
                    errors.append(error)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield answers
    finally:
        stop.set()
        thread.join()
    assert not errors


def test_kill_nine(settings: Settings, documents: Path, collection: Callable[..., str], environment: dict[str, str]) -> None:
    """Five kills at random moments; each leaves the live index as it was, and the next run makes it right."""
    collection()
    collection("scratch")
    _fill(documents, 1)
    index(settings, "handbook", embedder=HashEmbedder())
    rng = random.Random(11)
    unfinished = 0
    for attempt in range(2, 7):
        _fill(documents, attempt)
        before = export(settings, "handbook")
        with subprocess.Popen(
            [sys.executable, "-m", "tests.promises.slow_index", "handbook"], env=environment, stdout=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            child.stdout.readline()  # it is about to plan
            time.sleep(rng.uniform(0.2, 3.5))
            child.send_signal(signal.SIGKILL)
        if query(settings, "select state from ragworks.run order by id desc limit 1") != [("done",)]:
            unfinished += 1
            assert export(settings, "handbook") == before  # all or nothing
        index(settings, "handbook", embedder=HashEmbedder())
        index(settings, "scratch", embedder=HashEmbedder(), mode="rebuild", allow_deletes=True)
        assert_same_index(export(settings, "handbook"), export(settings, "scratch"))
    assert unfinished >= 3  # else this test tests little


@pytest.mark.slow
@pytest.mark.thorough  # as those with a quicker embedder
def test_kill_nine_with_the_real_model(
    settings: Settings, documents: Path, collection: Callable[..., str], environment: dict[str, str]
) -> None:
    """The command itself, killed while it embeds with MiniLM."""
    collection()
    collection("scratch")
    _fill(documents, 1, 45)
    index(settings, "handbook")
    _fill(documents, 2, 45)
    for _ in range(2):
        with subprocess.Popen([sys.executable, "-m", "include", "index", "handbook"], env=environment) as child:
            _wait_until(settings, "select count(*) > 0 from ragworks.work_item where worker is not null")
            time.sleep(0.5)
            child.kill()
        assert query(settings, "select state from ragworks.run order by id desc limit 1") == [("running",)]
    index(settings, "handbook")
    index(settings, "scratch")
    assert_same_index(export(settings, "handbook"), export(settings, "scratch"))


def _wait_until(settings: Settings, statement: str) -> None:
    deadline = time.monotonic() + 60
    while query(settings, statement) != [(True,)]:
        assert time.monotonic() < deadline, statement
        time.sleep(0.1)


def test_search_answers_all_the_time(
    settings: Settings, documents: Path, collection: Callable[..., str], environment: dict[str, str]
) -> None:
    """Edits, a new generation and a killed process, while queries go on."""
    collection()
    _fill(documents, 1)
    index(settings, "handbook", embedder=HashEmbedder())
    with _queries(settings) as answers:
        _fill(documents, 2)
        child = subprocess.Popen([sys.executable, "-m", "tests.promises.slow_index", "handbook"], env=environment)
        _wait_until(settings, "select count(*) > 0 from ragworks.work_item where worker is not null")
        child.kill()
        child.wait()
        index(settings, "handbook", embedder=HashEmbedder())
        collection(chunking={"max_tokens": 60})
        index(settings, "handbook", embedder=HashEmbedder())
    assert len(answers) > 50
    assert {hits for hits, _ in answers} == {5}
    assert [generation for _, generation in answers] == sorted(generation for _, generation in answers)
    assert len({generation for _, generation in answers}) == 2


@pytest.mark.parametrize("step", ["claim", "store", "complete", "merge", "publish"])
def test_crash_inside_a_step(
    step: str, settings: Settings, documents: Path, collection: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in the middle of a transaction leaves the live index as it was, and the next run right."""
    collection()
    collection("scratch")
    _fill(documents, 1)
    index(settings, "handbook", embedder=HashEmbedder())
    before = export(settings, "handbook")
    _fill(documents, 2)
    with monkeypatch.context() as broken:
        _break(broken, step)
        with pytest.raises(_Crash):
            index(settings, "handbook", embedder=HashEmbedder())
    assert export(settings, "handbook") == before
    index(settings, "handbook", embedder=HashEmbedder())
    index(settings, "scratch", embedder=HashEmbedder())
    assert_same_index(export(settings, "handbook"), export(settings, "scratch"))


class _Crash(Exception):
    pass


def _break(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Raise just after a step did its work."""
    module, name = {
        "claim": (worker.work_items, "claim"),
        "store": (worker.chunks, "write_documents"),
        "complete": (worker.work_items, "complete"),
        "merge": (merge.chunk_merge, "merge_staged"),
        "publish": (publish.runs, "finish_run"),
    }[step]
    original = getattr(module, name)

    def broken(*args: object, **kwargs: object) -> None:
        original(*args, **kwargs)
        raise _Crash

    monkeypatch.setattr(module, name, broken)

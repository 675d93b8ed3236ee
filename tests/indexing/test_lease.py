"""A lease runs out over a worker that hangs or is halted, not over one that takes long."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from include.errors import Transient
from include.indexing.context import open_context
from include.indexing.embed import index_shard
from include.indexing.plan import plan_run
from include.indexing.publish import publish_run, validate_run
from include.store import work_items
from tests.support import HashEmbedder, export, query

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from include.config import Settings


class Slow(HashEmbedder):
    """Takes its time for what a run embeds, in ``steps`` of some seconds, and tells of each."""

    def __init__(self, steps: int, seconds: float, begun: threading.Event | None = None) -> None:
        super().__init__()
        self._steps, self._seconds, self._begun = steps, seconds, begun

    def embed_documents(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        if not progress:  # the canary
            return super().embed_documents(texts)
        made = super().embed_documents(texts)
        if self._begun:
            self._begun.set()
        for _ in range(self._steps):
            time.sleep(self._seconds)
            progress(0)
        return made


@pytest.fixture
def planned(settings: Settings, documents: Path, collection: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> int:
    """The generation of a run over one document, with leases of a second."""
    monkeypatch.setattr(work_items, "LEASE_SECONDS", 1)
    collection()
    (documents / "long.md").write_text("A long document.")
    with open_context(settings, "handbook", embedder=HashEmbedder()) as context:
        return plan_run(context, "run").generation


def _work(settings: Settings, *embedders: HashEmbedder, after: threading.Event | None = None) -> list[int | Exception]:
    """What a worker with each embedder finished, or raised; the second begins after the event."""
    ends: list[int | Exception] = [0] * len(embedders)

    def work(number: int) -> None:
        try:
            if number and after:
                after.wait(30)
            with open_context(settings, "handbook", embedder=embedders[number]) as own:
                ends[number] = index_shard(own, "run")
        except Exception as error:
            ends[number] = error

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(embedders))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ends


def _published(settings: Settings) -> list[str]:
    with open_context(settings, "handbook", embedder=HashEmbedder()) as context:
        validate_run(context, "run")
        publish_run(context, "run")
    assert query(settings, "select count(*) from ragworks.quarantine") == [(0,)]
    return [row["text"] for row in export(settings, "handbook")]


def _embedded(settings: Settings) -> int:
    return int(query(settings, "select embedded from ragworks.run where key = 'run'")[0][0])


def test_slow_work_stays_with_its_worker(settings: Settings, planned: int) -> None:
    begun = threading.Event()
    slow, other = Slow(8, 0.5, begun), Slow(0, 0.0)
    assert _work(settings, slow, other, after=begun) == [1, 0]
    assert "A long document." not in other.texts
    assert _published(settings) == ["A long document."]


def test_a_hanging_worker_loses_its_documents_and_writes_nothing(settings: Settings, planned: int) -> None:
    begun, attempts = threading.Event(), []

    class Other(HashEmbedder):
        def embed_documents(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
            attempts.extend(query(settings, "select attempts from ragworks.work_item"))
            return super().embed_documents(texts, progress)

    hanging, other = Slow(1, 5.0, begun), Other()
    assert _work(settings, hanging, other, after=begun) == [0, 1]
    assert set(attempts) == {(1,)}  # nobody died
    assert (hanging.texts.count("A long document."), other.texts.count("A long document.")) == (1, 1)
    assert _embedded(settings) == 1
    assert _published(settings) == ["A long document."]


def test_workers_do_not_take_the_same_work_from_each_other_for_ever(
    settings: Settings, planned: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_items, "LEASE_SECONDS", 0.5)
    ends = _work(settings, Slow(1, 2.0), Slow(1, 2.0))
    [error] = [end for end in ends if isinstance(end, Exception)]
    assert isinstance(error, Transient)
    assert "took this one's documents over twice" in str(error)
    assert 1 in ends  # who is left alone ends it
    assert _published(settings) == ["A long document."]


def test_a_document_over_which_a_worker_died_is_counted(settings: Settings, planned: int) -> None:
    with open_context(settings, "handbook", embedder=HashEmbedder()) as context:
        found = []
        for _ in range(3):
            with work_items.worker(context.pool) as worker, context.pool.connection() as connection:
                found += work_items.claim(connection, planned, worker.id, characters=10_000, limit=10)
        assert [item.attempts for item in found] == [1, 2, 3]


def test_a_halted_process_writes_nothing_when_it_goes_on(
    settings: Settings, planned: int, environment: dict[str, str], tmp_path: Path
) -> None:
    flag = tmp_path / "go on"
    command = [sys.executable, "-m", "tests.indexing.halted_worker", "run", str(flag)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        assert child.stdout.readline() == "embedding\n"
        time.sleep(2)  # its lease is renewed
        own = HashEmbedder()
        child.send_signal(signal.SIGSTOP)
        assert _work(settings, own) == [1]
        assert "A long document." in own.texts
        before = query(settings, f"select * from ragworks.chunks_{planned}")
        flag.touch()
        child.send_signal(signal.SIGCONT)
        assert child.stdout.readline() == "finished 0\n"
        assert child.wait(30) == 0
    assert (_embedded(settings), query(settings, f"select * from ragworks.chunks_{planned}")) == (1, before)
    assert _published(settings) == ["A long document."]

"""Concurrent questions share calls of the model; blocking work is bounded."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

from include.serving.batching import BatchingEmbedder
from include.serving.failures import Refusal
from include.serving.workers import Workers
from tests.support import HashEmbedder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray


class SlowEmbedder(HashEmbedder):
    """Takes 20 ms a call, whatever is in it; two calls at once are a failure, and so is the text "bad"."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []
        self._one = threading.Lock()

    def embed_documents(self, texts: Sequence[str], progress: object = None) -> NDArray[np.float32]:
        assert self._one.acquire(blocking=False)
        try:
            self.calls.append(len(texts))
            time.sleep(0.02)
            if "bad" in texts:
                raise ValueError("bad")
            return super().embed_documents(texts)
        finally:
            self._one.release()


def test_concurrent_questions_share_calls() -> None:
    inner = SlowEmbedder()
    embedder = BatchingEmbedder(inner, most=32)
    texts = [f"question {n}" for n in range(96)]
    with ThreadPoolExecutor(48) as pool:
        vectors = list(pool.map(embedder.embed_query, texts))
    assert np.array_equal(np.array(vectors), HashEmbedder().embed_queries(texts))  # each its own
    assert sum(inner.calls) == 96
    assert len(inner.calls) <= 20
    assert max(inner.calls) <= 32


def test_who_is_alone_does_not_wait() -> None:
    embedder = BatchingEmbedder(HashEmbedder(), window=5.0)
    started = time.monotonic()
    embedder.embed_query("alone")
    assert time.monotonic() - started < 1


def test_long_lists_go_in_slices_between_which_questions_pass() -> None:
    inner = SlowEmbedder()
    embedder = BatchingEmbedder(inner, most=4)
    texts = [f"document {n}" for n in range(40)]
    with ThreadPoolExecutor(2) as pool:
        long = pool.submit(embedder.embed_documents, texts)
        time.sleep(0.01)
        question = pool.submit(embedder.embed_query, "question")
        question.result(5)
        assert not long.done()
        assert np.array_equal(long.result(5), HashEmbedder().embed_documents(texts))
    assert max(inner.calls) <= 4


def test_an_error_reaches_every_caller_and_the_next_batch_works() -> None:
    begun, go = threading.Event(), threading.Event()

    class Held(SlowEmbedder):
        def embed_documents(self, texts: Sequence[str], progress: object = None) -> NDArray[np.float32]:
            begun.set()
            assert go.wait(5)
            return super().embed_documents(texts)

    embedder = BatchingEmbedder(Held())
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(embedder.embed_query, "first")
        assert begun.wait(5)
        batch = [pool.submit(embedder.embed_query, text) for text in ("bad", "one", "two")]
        while len(embedder._waiting) < 3:
            time.sleep(0.001)
        go.set()
        assert first.result(5) is not None
        assert all(isinstance(one.exception(5), ValueError) for one in batch)
    assert embedder.embed_query("after").shape == (64,)


def test_beyond_the_queue_callers_are_refused_at_once() -> None:
    async def run() -> None:
        workers, go = Workers("test", 1, 1), threading.Event()
        calls = [asyncio.create_task(workers.run(go.wait, 5)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Refusal) as refused:
            await workers.run(go.wait, 5)
        assert (refused.value.status, refused.value.headers["Retry-After"]) == (429, "1")
        go.set()
        assert await asyncio.gather(*calls) == [True, True]
        assert await workers.run(lambda: "room again", 5) == "room again"

    asyncio.run(run())


def test_too_slow() -> None:
    """504; what had not begun never does, and its place is free."""

    async def run() -> None:
        workers, go, begun = Workers("test", 1, 1), threading.Event(), []
        slow = asyncio.create_task(workers.run(go.wait, 0.05))
        await asyncio.sleep(0)
        with pytest.raises(Refusal) as refused:
            await workers.run(lambda: begun.append(1), 0.05)
        assert refused.value.status == 504
        with pytest.raises(Refusal):
            await slow
        go.set()
        await asyncio.sleep(0.05)
        assert not begun
        assert await workers.run(lambda: 1, 5) == 1

    asyncio.run(run())


def test_streams_end_when_nobody_listens() -> None:
    closed = threading.Event()

    def pieces() -> Iterator[int]:
        try:
            for number in range(1_000_000):
                time.sleep(0.001)
                yield number
        finally:
            closed.set()

    async def run() -> None:
        workers = Workers("test", 1, 0)
        stream = workers.stream(pieces, 5)
        assert [await anext(stream) for _ in range(3)] == [0, 1, 2]
        await stream.aclose()  # type: ignore[attr-defined]
        assert await asyncio.to_thread(closed.wait, 5)

    asyncio.run(run())

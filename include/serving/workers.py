"""Runs blocking work for the event loop, so much at a time: what does not fit is told to come again, at once."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from include.serving.failures import Refusal, timed_out

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from concurrent.futures import Future

T = TypeVar("T")
_END = object()


class Workers:
    """Threads with a bounded queue.

    :param threads: calls at a time.
    :param waiting: calls that may wait for a thread; beyond it callers are refused with 429.
    :param note: told of 1 and -1 as calls come and go.
    """

    def __init__(self, name: str, threads: int, waiting: int, note: Callable[[int], None] = lambda change: None) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._room, self._inside, self._lock, self._note = threads + waiting, 0, threading.Lock(), note

    async def run(self, call: Callable[[], T], timeout: float) -> T:
        """The result of a call in a thread.

        A call that has begun cannot be stopped: it ends by itself, as statements in Postgres and requests to an LLM have a
        time limit too. One that has not begun never does.

        :raises Refusal: 429 too much to do; 504 it took longer than ``timeout`` seconds.
        """
        future = self._submit(call)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), timeout)
        except TimeoutError:
            raise timed_out() from None

    async def stream(self, produce: Callable[[], Iterator[T]], timeout: float) -> AsyncIterator[T]:
        """What an iterator in a thread gives, as it comes; the iterator is closed when nobody listens any more.

        :raises Refusal: 429 too much to do; 504 the next piece took longer than ``timeout`` seconds.
        """
        loop, pieces, left = asyncio.get_running_loop(), asyncio.Queue[Any](), threading.Event()

        def put(piece: Any) -> None:
            with suppress(RuntimeError):  # the loop is closed: the server stopped
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        self._submit(lambda: _pump(produce, put, left))
        try:
            while True:
                try:
                    piece = await asyncio.wait_for(pieces.get(), timeout)
                except TimeoutError:
                    raise timed_out() from None
                if piece is _END:
                    return
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        finally:
            left.set()

    def close(self) -> None:
        """Begin nothing more."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _submit(self, call: Callable[[], T]) -> Future[T]:
        with self._lock:
            if self._inside >= self._room:
                raise Refusal(429, "busy", "The server has too much to do. Try again in a second", retry_after=1)
            self._inside += 1
        self._note(1)
        future = self._executor.submit(call)
        future.add_done_callback(self._leave)
        return future

    def _leave(self, _: Future[Any]) -> None:
        with self._lock:
            self._inside -= 1
        self._note(-1)


def _pump(produce: Callable[[], Iterator[T]], put: Callable[[Any], None], left: threading.Event) -> None:
    if left.is_set():
        return
    try:
        iterator = produce()
        for piece in iterator:
            put(piece)
            if left.is_set():
                if (close := getattr(iterator, "close", None)) is not None:
                    close()
                return
        put(_END)
    except Exception as error:
        put(error)

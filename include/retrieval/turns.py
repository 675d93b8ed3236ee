"""One reranker reads for one search at a time, in the order they came: what is ahead says how long the next one waits.

Searches that share the cores would all be late; in turn, those that fit the budget are in time, and the others do without.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Turns:
    """The queue of a reranker in this process."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._ahead = 0
        self._worker = ThreadPoolExecutor(1, "reranker")

    def take(self, decide: Callable[[int], int], read: Callable[[int], T]) -> T | None:
        """Decide how many pairs to read, wait for those before, read.

        :param decide: how many, given how many pairs are ahead; 0: none, nothing is waited for.
        :param read: reads so many; called in another thread.
        """
        with self._guard:
            count = decide(self._ahead)
            self._ahead += count
        if not count:
            return None
        try:
            return self._worker.submit(read, count).result()
        finally:
            with self._guard:
                self._ahead -= count


_turns: dict[str, Turns] = {}


def turns_of(fingerprint: str) -> Turns:
    """The queue of this reranker, one a process."""
    return _turns.setdefault(fingerprint, Turns())

"""Answers a sample of live questions by the challenger too, after the reply and beside it: compared, counted, never shown.

Nothing here can hold up or fail an answer: taking a question is adding to a list, and what does not fit is dropped.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from include.retrieval.agreement import DEPTH, agreement
from include.store.shadow import Compared, save

if TYPE_CHECKING:
    from uuid import UUID

    from include.collection_file import Collection
    from include.retrieval.query import Found, Query
    from include.serving.challengers import Challengers, Contestant
    from include.serving.logbook import Logbook
    from include.serving.metrics import Metrics
    from include.store.pool import Pool

logger = logging.getLogger(__name__)

CAPACITY = 50  # questions that wait; with more, the challenger is slower than the sample, and others are dropped
DELAY = 0.25  # seconds until a question is taken up: its reply goes first
LOG_SECONDS = 5.0  # until the question's own row is in the log
CLOSE_SECONDS = 5.0
WARN_SECONDS = 60.0
_SHARES = 1_000_000


@dataclass(frozen=True, slots=True)
class Sampled:
    """A question that was answered.

    :param id: of its row in the query log.
    :param found: what was shown.
    """

    id: UUID
    collection_id: int
    collection: Collection
    query: Query
    found: Found
    since: float = field(default_factory=time.monotonic)


def is_sampled(query_id: UUID, share: float) -> bool:
    """Whether a question is one of the sample: by its id, which is random."""
    return query_id.int % _SHARES < share * _SHARES


class Shadow:
    """The challenger's side of one server; its thread begins with the first question."""

    def __init__(
        self, pool: Pool, challengers: Challengers, logbook: Logbook, metrics: Metrics, *, capacity: int = CAPACITY
    ) -> None:
        self._pool, self._challengers, self._logbook, self._metrics = pool, challengers, logbook, metrics
        self._capacity = capacity
        self._changed = threading.Condition()
        self._waiting: deque[Sampled] = deque()
        self._thread: threading.Thread | None = None
        self._busy = self._closing = False
        self._warned = float("-inf")

    def offer(self, sampled: Sampled) -> bool:
        """Take a question; never waits.

        :return: False: too many wait.
        """
        with self._changed:
            if self._closing or len(self._waiting) >= self._capacity:
                self._metrics.shadow.labels("dropped").inc()
                return False
            self._waiting.append(sampled)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="shadow", daemon=True)
                self._thread.start()
            self._changed.notify_all()
            return True

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until everything taken so far is done; False: it took too long."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, timeout)

    def close(self) -> None:
        """Drop what waits, and stop."""
        with self._changed:
            self._closing = True
            self._waiting.clear()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS)

    def _work(self) -> None:
        while (sampled := self._next()) is not None:
            try:
                state = self._compare(sampled)
            except Exception as error:  # of the database or of any library: the challenger's failure is nobody else's
                state = "failed"
                self._warn(sampled.collection.name, error)
            self._metrics.shadow.labels(state).inc()
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def _next(self) -> Sampled | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closing or bool(self._waiting))
            if self._waiting:
                self._changed.wait_for(lambda: self._closing, max(0.0, self._waiting[0].since + DELAY - time.monotonic()))
            if self._closing or not self._waiting:
                return None
            self._busy = True
            return self._waiting.popleft()

    def _compare(self, sampled: Sampled) -> str:
        contestant = self._challengers.of(sampled.collection_id)
        if contestant is None:
            return "no_challenger"
        try:
            compared = self._asked(contestant, sampled)
        except Exception as error:  # kept as a row: a challenger that fails must not be promoted unseen
            self._warn(sampled.collection.name, error)
            compared = Compared(sampled.id, contestant.run.id, _depth(sampled), error=type(error).__name__)
        if compared is None:
            return "left_out"
        self._logbook.flush(LOG_SECONDS)
        with self._pool.connection() as connection:
            kept = save(connection, compared)
        return "dropped" if not kept else "failed" if compared.error else "compared"

    def _asked(self, contestant: Contestant, sampled: Sampled) -> Compared | None:
        theirs = self._challengers.ask(contestant, sampled.collection, sampled.query, sampled.found)
        if theirs is None:
            return None
        found = agreement(sampled.found.hits, theirs.hits, depth=_depth(sampled))
        steps = ("embed", "search", "rerank") if contestant.index is not None else ("search", "rerank")
        live, seconds = (sum(one.seconds.get(step, 0.0) for step in steps) for one in (sampled.found, theirs))
        return Compared(sampled.id, contestant.run.id, found.depth, found.overlap, found.rbo, found.same_first, live, seconds)

    def _warn(self, collection: str, error: Exception) -> None:
        if time.monotonic() - self._warned > WARN_SECONDS:
            self._warned = time.monotonic()
            logger.warning("%s: the challenger does not answer in the shadow: %s", collection, type(error).__name__)


def _depth(sampled: Sampled) -> int:
    return min(DEPTH, sampled.query.top_k)

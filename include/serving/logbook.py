"""Writes the query log in a thread of its own, in batches: no request waits for it, an orderly stop loses nothing."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import psycopg

from include.collection_file import Privacy
from include.errors import BadConfiguration
from include.privacy.scrub import open_scrubber
from include.store import answers, api_keys, kept_out, query_log

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.answering.answer import Answer
    from include.collection_file import Collection
    from include.serving.metrics import Metrics
    from include.store.pool import Connection, Pool
    from include.store.query_log import LoggedQuery

logger = logging.getLogger(__name__)

CAPACITY = 10_000  # entries in memory; beyond it the oldest go, for a slow database must not fill the memory
INTERVAL, BATCH = 0.5, 200  # seconds and entries until they are written
CLOSE_SECONDS = 20.0
WARN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One question, and its answer if it was a chat.

    :param collection: its settings decide what of the texts is kept.
    """

    query: LoggedQuery
    collection: Collection
    answer: Answer | None = None


class Logbook:
    """The query log of one server."""

    def __init__(self, pool: Pool, metrics: Metrics, *, capacity: int = CAPACITY) -> None:
        self._pool, self._metrics, self._capacity = pool, metrics, capacity
        self._changed = threading.Condition()
        self._entries: deque[Entry] = deque()
        self._used: set[int] = set()
        self._added = self._done = 0
        self._hurry = self._closing = False
        self._warned = float("-inf")
        self._thread = threading.Thread(target=self._work, name="query-log", daemon=True)
        self._thread.start()

    def add(self, entry: Entry) -> None:
        """Take an entry; never waits."""
        with self._changed:
            self._added += 1
            self._entries.append(entry)
            self._bound()
            if len(self._entries) >= BATCH:
                self._changed.notify_all()

    def used(self, key: int) -> None:
        """Note that a key was used."""
        with self._changed:
            self._used.add(key)

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until everything added so far is in the database.

        :return: False: it took too long.
        """
        with self._changed:
            target, self._hurry = self._added, True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._done >= target, timeout)

    def close(self) -> None:
        """Write what is left, and stop."""
        written = self.flush(CLOSE_SECONDS)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(CLOSE_SECONDS)
        if not written:
            logger.error("query log: %d entries were lost, the database did not take them", self._added - self._done)

    def _bound(self) -> None:
        lost = len(self._entries) - self._capacity
        for _ in range(lost):
            self._entries.popleft()
            self._forget(1)

    def _forget(self, count: int) -> None:
        """Count entries that are lost, and warn, but not with every one."""
        self._done += count
        self._metrics.dropped.inc(count)
        if time.monotonic() - self._warned > WARN_SECONDS:
            self._warned = time.monotonic()
            logger.warning(
                "query log: entries are dropped, the database is too slow; ragworks_query_log_dropped_total counts them"
            )

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._hurry or len(self._entries) >= BATCH, INTERVAL)
                self._hurry = False
                batch = [self._entries.popleft() for _ in range(min(BATCH, len(self._entries)))]
                used, self._used = self._used, set()
                if self._closing and not batch and not used:
                    return
            if batch or used:
                self._write(batch, used)

    def _write(self, batch: list[Entry], used: set[int]) -> None:
        try:
            with self._pool.connection() as connection:
                api_keys.note_used(connection, used)
                _save(connection, batch)
            self._count(len(batch))
        except psycopg.OperationalError as error:
            logger.warning("query log: %d entries wait, the database refused them: %s", len(batch), error)
            with self._changed:
                self._entries.extendleft(reversed(batch))
                self._bound()
                if self._closing:
                    self._forget(len(self._entries))
                    self._entries.clear()
                self._changed.wait(INTERVAL)
        except Exception:
            self._write_singly(batch)

    def _write_singly(self, batch: Sequence[Entry]) -> None:
        """One of them cannot be stored, perhaps since its collection is gone: the others still are."""
        for entry in batch:
            try:
                with self._pool.connection() as connection:
                    _save(connection, [entry])
                self._count(1)
            except Exception as error:
                logger.warning("query log: an entry cannot be stored: %s", type(error).__name__)
                with self._changed:
                    self._forget(1)
                    self._changed.notify_all()

    def _count(self, written: int) -> None:
        self._metrics.logged.inc(written)
        with self._changed:
            self._done += written
            if self._entries:
                self._hurry = True
            self._changed.notify_all()


def _save(connection: Connection, batch: Sequence[Entry]) -> None:
    named = query_log.found_by(entry.query for entry in batch)
    for entry in batch:
        if entry.answer is not None:
            named[entry.query.collection_id] |= {hit.document for hit in entry.answer.sources}
    gone = kept_out.hold(connection, named)  # once a batch
    query_log.save_queries(connection, [_kept(entry) for entry in batch], gone=gone)
    for entry in batch:
        if entry.answer is not None:
            answers.save_answer(connection, entry.query.id, entry.answer, gone=gone.get(entry.query.collection_id, ()))


def _kept(entry: Entry) -> LoggedQuery:
    """The entry as the collection's settings let it be kept."""
    if entry.collection.query_log.keep_texts_days == 0:
        return replace(entry.query, query=None, embedding=None)
    try:
        scrubber = open_scrubber(Privacy(scrub=entry.collection.guardrails.scrub_queries))
    except BadConfiguration as error:  # what should be taken out is not known, so nothing is kept
        logger.warning("query log: texts of %s are not kept: %s", entry.collection.name, error)
        return replace(entry.query, query=None, embedding=None)
    if scrubber is None or entry.query.query is None:
        return entry.query
    clean, found = scrubber.scrub(entry.query.query)
    return replace(entry.query, query=clean, embedding=None) if found else entry.query  # a vector tells of its text

"""What a server does by itself: load a new generation's model before it answers, let old texts go."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg

from include.collection_file import load_collection
from include.errors import BadData, RagworksError
from include.store import collections, query_log

if TYPE_CHECKING:
    from include.serving.service import Service

logger = logging.getLogger(__name__)

LOOK_SECONDS, EXPIRE_SECONDS, STOP_SECONDS = 5.0, 3600.0, 2.0


class Housekeeper:
    """A thread that looks every few seconds. Several replicas may do the same at once: all of it can be done twice."""

    def __init__(self, service: Service) -> None:
        self._service, self._stop = service, threading.Event()
        self._thread = threading.Thread(target=self._work, name="housekeeping", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Begin nothing more, and wait a moment for what was begun."""
        self._stop.set()
        self._thread.join(STOP_SECONDS)

    def _work(self) -> None:
        expired = float("-inf")
        while not self._stop.is_set():
            try:
                self._service.warm_up()
                self._service.warm = True
                if time.monotonic() - expired >= EXPIRE_SECONDS:
                    expire_all(self._service)
                    expired = time.monotonic()
            except (RagworksError, psycopg.Error) as error:
                if self._stop.is_set():  # the pool is closed before a long step ends
                    return
                logger.warning("housekeeping: %s", error)
            self._stop.wait(LOOK_SECONDS)


def expire_all(service: Service) -> None:
    """Apply every collection's retention to its query log."""
    for name in service.names():
        settings = load_collection(service.settings, name).query_log
        with service.pool.connection() as connection, suppress(BadData):  # never indexed, so never asked
            query_log.expire(connection, collections.collection_id(connection, name), settings)

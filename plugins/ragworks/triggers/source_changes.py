"""Notices that a collection's source has changed, so that its DAG runs within seconds."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from include.collection_file import Collection
    from include.config import Settings
    from include.indexing.watching import Pending

logger = logging.getLogger(__name__)

CONNECTIONS_SECONDS = 300.0  # how long what Airflow's connections say is believed, unless a look fails


class SourceChangeTrigger(BaseEventTrigger):
    """Fire when a source differs from what the database knows of it.

    It compares states and counts no events: what happened while no triggerer ran is found by the next look. It holds
    names only; the database is that of the connection ``ragworks_postgres``, the source's credentials those of
    ``source.conn_id``. An error is logged once and tried again, at most a minute apart: an event trigger that ends would
    never be missed by anybody.

    :param collection: name of the collection; its file is read for each look.
    :param seconds: between two looks.
    """

    def __init__(self, collection: str, seconds: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.collection = collection
        self.seconds = seconds
        self._settings: Settings | None = None
        self._asked = 0.0
        self._options: tuple[Any, dict[str, Any] | None] | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What the triggerer makes this one of."""
        kwargs = {"collection": self.collection, "seconds": self.seconds}
        return "ragworks.triggers.source_changes.SourceChangeTrigger", kwargs

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """An event for each difference; its payload has counts only."""
        from include.indexing.watching import Busy, Watch

        watch = Watch(self.seconds)
        while True:
            began = time.monotonic()
            try:
                found = await asyncio.to_thread(self._look)  # it blocks, as its libraries do
            except Busy:
                pass
            except Exception as error:  # whatever it is: see the class
                self._settings = None  # perhaps a connection was corrected
                if watch.fails(error):
                    logger.warning("Cannot look for changes of %s, will go on trying: %s", self.collection, error)
            else:
                if watch.recovers():
                    logger.info("Looking for changes of %s again", self.collection)
                if watch.fires(found, time.monotonic()) and found is not None:
                    counts = {"collection": self.collection, "changed": found.changed, "vanished": found.vanished}
                    yield TriggerEvent(counts)  # type: ignore[no-untyped-call]
            await asyncio.sleep(watch.pause(time.monotonic() - began))

    def _look(self) -> Pending | None:
        from include.collection_file import load_collection
        from include.indexing.opening import open_collection_source
        from include.indexing.watching import pending_changes

        settings = self._current_settings()
        collection = load_collection(settings, self.collection)
        source = open_collection_source(collection, storage_options=self._source_options(collection))
        return pending_changes(settings, source, self.collection)

    def _current_settings(self) -> Settings:
        from ragworks.hooks.ragworks import settings_from_airflow

        if self._settings is None or time.monotonic() - self._asked > CONNECTIONS_SECONDS:
            self._settings, self._options = settings_from_airflow(), None
            self._asked = time.monotonic()
        return self._settings

    def _source_options(self, collection: Collection) -> dict[str, Any] | None:
        from ragworks.hooks.ragworks import source_options

        if self._options is None or self._options[0] != collection.source:
            self._options = (collection.source, source_options(collection.source))
        return self._options[1]

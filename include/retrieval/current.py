"""The collection file as it is now: who answers queries for weeks takes an edit up within seconds."""

from __future__ import annotations

import logging
import time
from threading import Lock
from typing import TYPE_CHECKING

from include.collection_file import collection_files, load_collection
from include.errors import BadConfiguration

if TYPE_CHECKING:
    from include.collection_file import Collection
    from include.config import Settings

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0


class CurrentCollection:
    """Reads the file again when it changed; goes on with what it knew while the file is broken or gone."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings, self._name, self._lock = settings, name, Lock()
        self._seen: tuple[object, ...] | None = None
        self._looked = float("-inf")
        self._known: Collection | None = None

    def get(self) -> Collection | None:
        """The settings; None when no file of the collection was ever readable."""
        with self._lock:
            if time.monotonic() - self._looked >= LOOK_SECONDS:
                self._look()
                self._looked = time.monotonic()
            return self._known

    def _look(self) -> None:
        try:
            seen = tuple((str(p), s.st_mtime_ns, s.st_size) for p in collection_files(self._settings) for s in (p.stat(),))
            if seen != self._seen:
                self._seen = seen
                self._known = load_collection(self._settings, self._name)
        except (BadConfiguration, OSError) as error:
            kept = "as before" if self._known else "as by default"
            logger.warning("%s is answered %s: %s", self._name, kept, error)

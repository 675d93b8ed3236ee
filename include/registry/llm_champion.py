"""Who writes a collection's answers at this moment: the language model that was promoted, else the environment's endpoint."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from include.answering.champion import ChampionLLM, Maker
from include.answering.llm import LLM, open_llm
from include.collection_file import CHAMPION
from include.registry import champions
from include.store import deployments

if TYPE_CHECKING:
    from include.collection_file import Collection
    from include.config import Settings
    from include.store.pool import Pool

logger = logging.getLogger(__name__)


class LlmChampion:
    """The language model that was promoted for a collection in this environment, as a process knows it.

    Nothing is loaded here: it answers behind ``RAGWORKS_LLM_SERVER``, and is asked for by its version.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings, self._name = settings, name
        self._lock = threading.Lock()
        self._looked = float("-inf")
        self._seen: int | None = None
        self._serving: ChampionLLM | None = None

    def get(self, pool: Pool) -> ChampionLLM | None:
        """The one to ask now, looked up again after 2 seconds; None when none was promoted."""
        with self._lock:
            if time.monotonic() - self._looked >= champions.LOOK_SECONDS:
                self._look(pool)
                self._looked = time.monotonic()
            return self._serving

    def _look(self, pool: Pool) -> None:
        with pool.connection() as connection:
            live = deployments.serving(connection, self._settings.environment, "llm", self._name)
        if live is None or live.artifact is None:
            self._seen, self._serving = None, None
        elif live.id != self._seen:
            self._seen, self._serving = live.id, ChampionLLM(self._settings, Maker.of(self._name, live))
            logger.info("%s: llm %s writes answers", self._name, live.version)


_champions: dict[tuple[Settings, str], LlmChampion] = {}
_making = threading.Lock()


def llm_champion(settings: Settings, name: str) -> LlmChampion:
    """The champion of a collection, one object a process."""
    with _making:
        return _champions.setdefault((settings, name), LlmChampion(settings, name))


def open_writer(settings: Settings, pool: Pool, collection: Collection) -> LLM | None:
    """Who writes answers of a collection; None: they are extracted.

    :raises BadConfiguration: an address without a model.
    """
    return champion_of(settings, pool, collection) or open_llm(settings)


def champion_of(settings: Settings, pool: Pool, collection: Collection) -> LLM | None:
    """The promoted one; None where none is, or the collection file wants the endpoint."""
    return llm_champion(settings, collection.name).get(pool) if collection.answers.llm == CHAMPION else None

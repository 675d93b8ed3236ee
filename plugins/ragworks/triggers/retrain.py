"""Turns decisions to train into events: within seconds, and none of them is lost."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from ragworks.triggers.looking import looks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from include.config import Settings
    from include.store.decisions import Claimed


class RetrainTrigger(BaseEventTrigger):
    """Fire for each approved decision to train a model of a family.

    It claims what it fires on, so that of several triggerers one does; a claim that leads to no training within five minutes
    is given out again, because its event was lost. The event carries ids alone: the run that it starts reads the decision,
    and does nothing when another run has taken it up.

    :param family: ``reranker``, ``embedder`` or ``llm``.
    :param seconds: between two looks.
    """

    def __init__(self, family: str, seconds: float = 1.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.family = family
        self.seconds = seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What the triggerer makes this one of."""
        return "ragworks.triggers.retrain.RetrainTrigger", {"family": self.family, "seconds": self.seconds}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """An event for each decision: ``{decision, collection, family}``."""
        async for look in looks(f"decisions to train the {self.family}", self.seconds, self._claim):
            for one in look.found or ():
                payload = {"decision": one.id, "collection": one.collection, "family": self.family}
                yield TriggerEvent(payload)  # type: ignore[no-untyped-call]

    def _claim(self, settings: Settings) -> list[Claimed]:
        from include.store import awaited, decisions
        from include.store.pool import open_connection, open_pool
        from include.store.watching import no_schema

        with open_connection(settings) as connection:  # writes and migrates nothing: nearly every look ends here
            try:
                if not awaited.trainings_asked_for(connection, settings.environment, self.family):
                    return []
            except no_schema():
                return []
        worker = f"{socket.gethostname()}:{os.getpid()}"
        with open_pool(settings, max_size=1) as pool, pool.connection() as connection:
            return decisions.claim(connection, worker=worker, environment=settings.environment, family=self.family)

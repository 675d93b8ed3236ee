"""The loop that our triggers have in common: look, say once what is in the way, look again."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from include.config import Settings

logger = logging.getLogger(__name__)

Found = TypeVar("Found")

CONNECTIONS_SECONDS = 300.0  # how long what Airflow's connections say is believed, unless a look fails


@dataclass(frozen=True)
class Look(Generic[Found]):
    """What one look brought: a finding, or the error that stood in the way."""

    found: Found | None = None
    error: Exception | None = None


async def looks(
    what: str, seconds: float, look: Callable[[Settings], Found], *, until: float = float("inf")
) -> AsyncIterator[Look[Found]]:
    """Look again and again, in a thread, since what is asked blocks.

    An error is logged once, then tried again less and less often, at least once a minute: a trigger that ends would be
    missed by nobody. It never ends by itself.

    :param what: is looked at, for the log.
    :param seconds: between two looks.
    :param look: is given the settings of this moment.
    :param until: no pause goes beyond this (``time.time()``).
    """
    from include.indexing.watching import Watch

    watch, known = Watch(seconds), _Known()
    while True:
        began = time.monotonic()
        try:
            found = await asyncio.to_thread(lambda: look(known.settings()))
        except Exception as error:  # whatever it is: see above
            known.doubt()
            if watch.fails(error):
                logger.warning("Cannot look at %s, will go on trying: %s", what, error)
            yield Look(error=error)
        else:
            if watch.recovers():
                logger.info("Looking at %s again", what)
            watch.fires(None, began)  # all is well: the pauses are short again
            yield Look(found)
        pause = watch.pause(time.monotonic() - began)
        await asyncio.sleep(max(0.0, min(pause, until - time.time())))


class _Known:
    """The settings, asked for anew every few minutes: connections may be corrected while triggers run."""

    def __init__(self) -> None:
        self._settings: Settings | None = None
        self._asked = 0.0

    def settings(self) -> Settings:
        from ragworks.hooks.ragworks import settings_from_airflow

        if self._settings is None or time.monotonic() - self._asked > CONNECTIONS_SECONDS:
            self._settings, self._asked = settings_from_airflow(), time.monotonic()
        return self._settings

    def doubt(self) -> None:
        self._settings = None

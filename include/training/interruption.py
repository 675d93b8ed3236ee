"""A machine that is taken away says so with a signal: the step is finished, a checkpoint saved, and the next start goes on."""

from __future__ import annotations

import logging
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from include.errors import Transient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(Transient):
    """A training that was asked to stop, and can go on."""


class Interruption:
    """Whether somebody asked to stop; who works in steps looks after each.

    :param requested: the signal's name, empty while nobody did.
    """

    def __init__(self) -> None:
        self.requested = ""

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGTERM and Ctrl-C as a request; a second one ends the process as ever. Nothing outside the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._ask) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def check(self) -> None:
        """Give up what need not be finished.

        :raises Interrupted: somebody asked to stop.
        """
        if self.requested:
            raise Interrupted(f"interrupted by {self.requested}", "", "Run it again: it goes on where it was")

    def _ask(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.requested = signal.Signals(number).name
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        logger.warning("%s: this step is finished and a checkpoint saved", self.requested)

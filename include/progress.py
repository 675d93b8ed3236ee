"""How long work shows itself; the command line draws bars, tasks log steps."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told of each step and its advance."""

    def step(self, name: str, total: int | None) -> None:
        """A step begins; total is None when its size is unknown."""

    def advance(self, count: int) -> None:
        """Part of the current step is done."""


class Silent:
    """Shows nothing."""

    def step(self, name: str, total: int | None) -> None:
        """Ignore."""

    def advance(self, count: int) -> None:
        """Ignore."""

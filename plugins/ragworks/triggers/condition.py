"""Waits for a sensor, in the triggerer: no worker slot is held."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from ragworks.triggers.looking import looks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class ConditionTrigger(BaseTrigger):
    """Fire once, when a condition holds or the time is over.

    All that it knows is in :meth:`serialize`, so that a triggerer that is started anew waits for the same thing, until the
    same moment.

    :param condition: name in :data:`include.monitoring.conditions.CONDITIONS`.
    :param arguments: of that condition; JSON alone.
    :param seconds: between two looks.
    :param until: when to give up, ISO 8601 with a time zone.
    :param waited: seconds that lie between the sensor's start and ``until``, for the message.
    """

    def __init__(self, condition: str, arguments: dict[str, Any], seconds: float, until: str, waited: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.condition = condition
        self.arguments = arguments
        self.seconds = seconds
        self.until = until
        self.waited = waited

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What the triggerer makes this one of."""
        return "ragworks.triggers.condition.ConditionTrigger", {
            "condition": self.condition,
            "arguments": self.arguments,
            "seconds": self.seconds,
            "until": self.until,
            "waited": self.waited,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event: ``{"status": "met", "facts"}``, or ``{"status": "timeout", "message"}``."""
        from include.monitoring.conditions import look

        until = datetime.fromisoformat(self.until).timestamp()
        state = "it was never looked at"
        what = f"{self.condition} of {self.arguments.get('collection')}"
        async for one in looks(what, self.seconds, lambda s: look(s, self.condition, self.arguments), until=until):
            if one.found is not None and one.found.met:
                yield TriggerEvent({"status": "met", "facts": one.found.facts})  # type: ignore[no-untyped-call]
                return
            state = one.found.told if one.found is not None else f"it could not be looked at: {one.error}"
            if time.time() >= until:
                message = f"Not within {self.waited:g} s: {state}"
                yield TriggerEvent({"status": "timeout", "message": message})  # type: ignore[no-untyped-call]
                return

"""Whose turn it is: the server's clients and the bare query load the machine by turns, many times in a run.

So both meet the same machine: the same builds beside them, and the same strangers' work.
"""

from __future__ import annotations

PERIOD, SERVED, SETTLE = 10.0, 7.0, 0.5  # seconds; of each period the first 7 are the server's


def served(now: float, start: float) -> bool:
    """Whether all clients ask the server now; else one goes on, and the bare query has the machine."""
    return (now - start) % PERIOD < SERVED


def counts(now: float, start: float) -> bool:
    """Whether a call that began now is measured: nothing of the turn before is still on its way."""
    into = (now - start) % PERIOD
    return into > (SETTLE if into < SERVED else SERVED + SETTLE)


def until_served(now: float, start: float) -> float:
    """Seconds to the next turn of the server."""
    return PERIOD - (now - start) % PERIOD

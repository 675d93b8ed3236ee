"""What a collection is used to: the first days of its log, until a person or a promotion says that another time counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from include.monitoring.windows import before
from include.store import monitored, signals
from include.store.signals import Reference

if TYPE_CHECKING:
    from datetime import datetime

    from numpy.typing import NDArray

    from include.collection_file import Monitoring
    from include.monitoring.breach import Signal
    from include.store.pool import Connection

VECTORS = 2_000  # of the reference
NONE: NDArray[np.float32] = np.zeros((0, 0), np.float32)


@dataclass(frozen=True, slots=True)
class Usual:
    """The reference in numbers.

    :param reference: of how well is answered; ``drift`` of what is asked.
    :param rows: measurements of the windows in it, by signal.
    :param vectors: of questions, from ``vectors_from`` to ``vectors_to``: the drift reference itself, or, when its vectors
        are no longer kept, the oldest time that has some.
    """

    reference: Reference
    drift: Reference
    rows: dict[str, list[Signal]] = field(default_factory=dict)
    vectors: NDArray[np.float32] = field(default_factory=lambda: NONE)
    vectors_from: datetime | None = None
    vectors_to: datetime | None = None


def ensure_reference(connection: Connection, collection: int, monitoring: Monitoring, at: datetime) -> Reference | None:
    """The reference, made of the first days of the log when there is none; None: the log does not go back far enough yet."""
    found = signals.reference(connection, collection, at)
    first = monitored.first_question(connection, collection)
    if found is not None or first is None:
        return found
    length = timedelta(hours=monitoring.window_hours)
    start = before(first, monitoring.window_hours)
    end = start + max(1, round(timedelta(days=monitoring.reference_days) / length)) * length
    while end <= at and monitored.questions(connection, collection, start, end) < 2 * monitoring.minimum_sample:
        end += length
    if end > at:
        return None
    new = Reference(start, end, start, "the first questions of the log")
    signals.save_reference(connection, collection, new)
    return new


def usual(connection: Connection, collection: int, monitoring: Monitoring, at: datetime, embedder: str | None) -> Usual | None:
    """What a window that ends at ``at`` is compared with; None: there is no reference yet.

    :param embedder: fingerprint of the one that made the vectors to compare with.
    """
    reference = signals.reference(connection, collection, at)
    drift = signals.reference(connection, collection, at, drift=True)
    if reference is None or drift is None:
        return None
    rows = signals.history(connection, collection, until=reference.end, since=reference.start)
    if embedder is None:
        return Usual(reference, drift, rows)
    start, end = drift.start, drift.end
    vectors = monitored.vectors(connection, collection, start, end, embedder=embedder, limit=VECTORS)
    if len(vectors) < monitoring.minimum_sample and (kept := monitored.first_vector(connection, collection, embedder)):
        # The texts of the reference are past keep_texts_days, or another model embedded them.
        start = before(kept, monitoring.window_hours)
        end = min(at - timedelta(hours=monitoring.window_hours), start + timedelta(days=monitoring.reference_days))
        vectors = monitored.vectors(connection, collection, start, end, embedder=embedder, limit=VECTORS)
    return Usual(reference, drift, rows, vectors, start, end)


def accept(connection: Connection, collection: int, at: datetime, days: float, *, actor: str = "") -> Reference:
    """A person says that what came in the days up to ``at`` is usual from now on."""
    new = Reference(at - timedelta(days=days), at, at, "accepted by a person")
    signals.save_reference(connection, collection, new, actor=actor)
    return new

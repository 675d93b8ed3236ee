"""What those who wait ask over and over: one cheap statement each, which writes nothing and needs no other table filled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg.rows import class_row

from include.store.decisions import LEASE_SECONDS

if TYPE_CHECKING:
    from datetime import datetime

    from include.store.pool import Connection


@dataclass(frozen=True, slots=True)
class Measured:
    """The newest measurement of a signal.

    :param state: ``within`` what is usual, ``beyond`` it, or ``too_few`` to tell.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    sample: int
    state: str
    window_end: datetime
    measured_at: datetime


def index_as_of(connection: Connection, collection: str) -> datetime | None:
    """When the run began that last brought the index in step with its source; None: none ever did."""
    row = connection.execute(
        "select max(r.started_at) from ragworks.run r join ragworks.collection c on c.id = r.collection_id"
        " where c.name = %s and r.state = 'done' and r.mode in ('incremental', 'rebuild')",
        (collection,),
    ).fetchone()
    return row[0] if row else None


def feedback_since(connection: Connection, collection: str, since: datetime | None) -> int:
    """Judgements of answers that came after a moment; None: ever."""
    row = connection.execute(
        "select count(*) from ragworks.feedback f join ragworks.query_log l on l.id = f.query_id"
        " join ragworks.collection c on c.id = l.collection_id"
        " where c.name = %s and (%s::timestamptz is null or f.created_at > %s)",
        (collection, since, since),
    ).fetchone()
    return int(row[0]) if row else 0


def last_measured(connection: Connection, collection: str) -> datetime | None:
    """When the collection's signals were last measured."""
    row = connection.execute(
        "select max(s.measured_at) from ragworks.signal s join ragworks.collection c on c.id = s.collection_id"
        " where c.name = %s",
        (collection,),
    ).fetchone()
    return row[0] if row else None


def newest_signal(connection: Connection, collection: str, signal: str, since: datetime | None) -> Measured | None:
    """The newest measurement of a signal that was made after a moment; None: there is none."""
    with connection.cursor(row_factory=class_row(Measured)) as cursor:
        return cursor.execute(
            "select s.name, s.value, s.low, s.high, s.sample, s.state, s.window_end, s.measured_at from ragworks.signal s"
            " join ragworks.collection c on c.id = s.collection_id where c.name = %s and s.name = %s"
            " and (%s::timestamptz is null or s.measured_at > %s) order by s.window_end desc, s.id desc limit 1",
            (collection, signal, since, since),
        ).fetchone()


def trainings_asked_for(connection: Connection, environment: str, family: str, lease: float = LEASE_SECONDS) -> int:
    """Approved trainings of a family that nobody has claimed, or whose claim led to nothing."""
    row = connection.execute(
        "select count(*) from ragworks.decision where environment = %s and family = %s and action = 'train' and (state ="
        " 'approved' or state = 'claimed' and claimed_at < now() - make_interval(secs => %s))",
        (environment, family, lease),
    ).fetchone()
    return int(row[0]) if row else 0


def serves(connection: Connection, model_run: int) -> bool:
    """Whether the model of a training serves somewhere."""
    row = connection.execute(
        "select exists (select from ragworks.deployment where model_run_id = %s and state = 'live')", (model_run,)
    ).fetchone()
    return bool(row and row[0])

"""What was measured of collections, window by window, and what counts as usual."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from include.monitoring.breach import Breach, Signal
from include.monitoring.catalogue import SIGNALS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from include.store.pool import Connection, Pool

MONITOR_LOCK = 0x5266  # class of the advisory lock; the second key is the collection's id


@dataclass(frozen=True, slots=True)
class Reference:
    """What is usual: the questions from ``start`` to ``end``, for windows that end after ``valid_from``.

    :param scope: ``all``; ``drift``: of what is asked, and not of how well it is answered.
    """

    start: datetime
    end: datetime
    valid_from: datetime
    reason: str = ""
    scope: str = "all"


@contextmanager
def monitoring(pool: Pool, collection: int) -> Iterator[None]:
    """One monitor of a collection at a time; a second one waits, and then finds everything measured."""
    with pool.connection() as connection:
        connection.autocommit = True  # it would be idle in a transaction for as long as is measured
        try:
            connection.execute("select pg_advisory_lock(%s, %s)", (MONITOR_LOCK, collection))
            try:
                yield
            finally:
                if not connection.closed and not connection.broken:
                    connection.execute("select pg_advisory_unlock(%s, %s)", (MONITOR_LOCK, collection))
        finally:
            if not connection.closed:
                connection.autocommit = False


def save(connection: Connection, collection: int, signals: Sequence[Signal], *, run_key: str) -> None:
    """Keep the measurements of a window; one that is there stays as it is."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into ragworks.signal (collection_id, name, window_start, window_end, value, low, high, p, sample,"
            " threshold, state, reference, detail, run_key) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
            " on conflict (collection_id, name, window_end) do nothing",
            [
                (
                    collection, s.name, s.window_start, s.window_end, s.value, s.low, s.high, s.p, s.sample, s.threshold,
                    s.state, Jsonb(dict(s.reference)), Jsonb({**s.detail, "near": s.near}), run_key,
                )
                for s in signals
            ],
        )  # fmt: skip


def history(
    connection: Connection, collection: int, *, until: datetime, since: datetime | None = None, latest: int | None = None
) -> dict[str, list[Signal]]:
    """Measurements by signal, oldest first, of the windows that end by ``until``.

    :param latest: the newest so many of each that say something, and the newest of all.
    """
    values = {"c": collection, "until": until, "since": since, "latest": latest, "names": list(SIGNALS)}
    rows = connection.execute((_HISTORY if latest is None else _LATEST) + " order by window_end, id", values)
    found: dict[str, list[Signal]] = {}
    for row in map(_signal, rows):
        found.setdefault(row.name, []).append(row)
    return found


_HISTORY = (
    "select name, window_start, window_end, value, low, high, sample, threshold, p, state, reference, detail, id"
    " from ragworks.signal where collection_id = %(c)s and window_end <= %(until)s"
    " and (%(since)s::timestamptz is null or window_end > %(since)s)"
)
# Signal by signal from the newest window back, by the index of the unique key.
_LATEST = (
    _HISTORY + " and id in (select one.id from unnest(%(names)s::text[]) as known (name) cross join lateral ("
    " (select id from ragworks.signal where collection_id = %(c)s and name = known.name and window_end <= %(until)s"
    "  order by window_end desc limit 1)"
    " union all"
    " (select id from ragworks.signal where collection_id = %(c)s and name = known.name and window_end <= %(until)s"
    "  and state <> 'too_few' order by window_end desc limit %(latest)s)) as one)"
)


def first_of(
    connection: Connection,
    collection: int,
    name: str,
    models: Mapping[str, str],
    *,
    since: datetime,
    until: datetime,
    limit: int,
) -> list[Signal]:
    """The first windows of a signal that certain models answered, oldest first, between two times.

    :param models: what ``detail`` must say, as ``{"embedder": fingerprint}``.
    """
    rows = connection.execute(
        "select name, window_start, window_end, value, low, high, sample, threshold, p, state, reference, detail, id"
        " from ragworks.signal where collection_id = %s and name = %s and window_end > %s and window_end <= %s"
        " and sample > 0 and detail @> %s order by window_end limit %s",
        (collection, name, since, until, Jsonb(dict(models)), limit),
    )
    return [_signal(row) for row in rows]


def _signal(row: Sequence[Any]) -> Signal:
    name, start, end, value, low, high, sample, threshold, p, state, reference, detail, id_ = row
    near = detail.pop("near", None)
    return Signal(name, start, end, value, low, high, sample, threshold, near, p, state, reference, detail, id_)


def by_ids(connection: Connection, ids: Sequence[int]) -> list[dict[str, Any]]:
    """Measurements as they are shown, oldest first."""
    rows = connection.execute(
        "select id, name, window_end, value, low, high, sample, state from ragworks.signal where id = any(%s)"
        " order by window_end, id",
        (list(ids),),
    )
    return [
        {
            "id": id_, "signal": name, "window_end": end.isoformat(timespec="seconds"), "value": value, "low": low,
            "high": high, "sample": sample, "state": state,
        }
        for id_, name, end, value, low, high, sample, state in rows
    ]  # fmt: skip


def last_window(connection: Connection, collection: int) -> datetime | None:
    """End of the newest window that was measured."""
    row = connection.execute("select max(window_end) from ragworks.signal where collection_id = %s", (collection,)).fetchone()
    return row[0] if row else None


def newest_window(connection: Connection, collection: int) -> tuple[datetime, datetime] | None:
    """Start and end of the newest window that was measured."""
    row = connection.execute(
        "select window_start, window_end from ragworks.signal where collection_id = %s order by window_end desc limit 1",
        (collection,),
    ).fetchone()
    return (row[0], row[1]) if row else None


def measured(connection: Connection, collection: int, name: str, end: datetime) -> bool:
    """Whether a signal was measured in the window that ends then."""
    query = "select from ragworks.signal where collection_id = %s and name = %s and window_end = %s"
    return connection.execute(query, (collection, name, end)).fetchone() is not None


def accepted(connection: Connection, collection: int) -> list[tuple[datetime, datetime]]:
    """Times that a person said to be usual, from and to."""
    rows = connection.execute(
        "select starts_at, ends_at from ragworks.monitor_reference where collection_id = %s and scope = 'all'"
        " and valid_from >= ends_at",
        (collection,),
    )
    return [(row[0], row[1]) for row in rows]


def first_evaluation(connection: Connection, collection: int, name: str, at: datetime) -> int | None:
    """The evaluation of the first measurement since the reference began that can still be paired; None: there is none."""
    row = connection.execute(
        "select (detail ->> 'evaluation')::bigint from ragworks.signal s where collection_id = %(c)s and name = %(n)s"
        " and window_end < %(at)s and detail ->> 'evaluation' is not null and window_end > coalesce((select max(starts_at) from"
        "  ragworks.monitor_reference where collection_id = %(c)s and scope = 'all' and valid_from < %(at)s), '-infinity')"
        " order by window_end limit 1",
        {"c": collection, "n": name, "at": at},
    ).fetchone()
    return int(row[0]) if row else None


def reference(connection: Connection, collection: int, at: datetime, *, drift: bool = False) -> Reference | None:
    """What windows that end at ``at`` are compared with.

    :param drift: for signals of what is asked.
    """
    row = connection.execute(
        "select starts_at, ends_at, valid_from, reason, scope from ragworks.monitor_reference where collection_id = %s"
        " and valid_from < %s and (%s or scope = 'all') order by valid_from desc, id desc limit 1",
        (collection, at, drift),
    ).fetchone()
    return Reference(*row) if row else None


def save_reference(connection: Connection, collection: int, new: Reference, *, actor: str = "") -> bool:
    """Say what is usual from now on; False: somebody said so for the same time already."""
    return bool(
        connection.execute(
            "insert into ragworks.monitor_reference (collection_id, scope, starts_at, ends_at, valid_from, reason, actor)"
            " values (%s, %s, %s, %s, %s, %s, %s) on conflict do nothing",
            (collection, new.scope, new.start, new.end, new.valid_from, new.reason, actor),
        ).rowcount
    )


def thresholds(connection: Connection, collection: int) -> dict[str, float]:
    """Calibrated thresholds, the newest of each signal."""
    rows = connection.execute(
        "select distinct on (signal) signal, threshold from ragworks.monitor_threshold where collection_id = %s"
        " order by signal, id desc",
        (collection,),
    )
    return {str(name): float(value) for name, value in rows}


def save_threshold(connection: Connection, collection: int, signal: str, value: float, detail: Mapping[str, Any]) -> None:
    """Keep a calibrated threshold."""
    connection.execute(
        "insert into ragworks.monitor_threshold (collection_id, signal, threshold, detail) values (%s, %s, %s, %s)",
        (collection, signal, value, Jsonb(dict(detail))),
    )


def breaches(
    connection: Connection, collection: int, *, until: datetime | None = None, limit: int | None = 200
) -> list[Breach]:
    """Breaches, newest first.

    :param until: those that were open, or had ended, by then.
    """
    rows = connection.execute(
        "select signal, opened_at, ended_at, reason, evidence, id from ragworks.breach where collection_id = %s"
        " and (%s::timestamptz is null or opened_at <= %s) order by opened_at desc, id desc limit %s",
        (collection, until, until, limit),
    )
    return [
        Breach(
            name, opened, ended, reason, tuple(evidence.get("signals", ())), _time(evidence.get("since")), id_,
            _time(evidence.get("by")),
        )
        for name, opened, ended, reason, evidence, id_ in rows
    ]  # fmt: skip


def found_at(connection: Connection, breaches: Sequence[int]) -> dict[int, datetime]:
    """When the rows of breaches were written: by the clock, not by the windows."""
    rows = connection.execute("select id, created_at from ragworks.breach where id = any(%s)", (list(breaches),))
    return {int(id_): at for id_, at in rows}


def open_breach(connection: Connection, collection: int, breach: Breach, *, run_key: str) -> int | None:
    """Keep a breach; None: it is known."""
    since, by = (time.isoformat() if time else None for time in (breach.since, breach.by))
    row = connection.execute(
        "insert into ragworks.breach (collection_id, signal, signal_id, opened_at, reason, evidence, run_key)"
        " values (%s, %s, %s, %s, %s, %s, %s) on conflict do nothing returning id",
        (
            collection, breach.signal, breach.signals[-1], breach.opened_at, breach.reason,
            Jsonb({"signals": list(breach.signals), "since": since, "by": by}), run_key,
        ),
    ).fetchone()  # fmt: skip
    return int(row[0]) if row else None


def end_breach(connection: Connection, breach: int, at: datetime) -> None:
    """A signal is back."""
    connection.execute("update ragworks.breach set ended_at = %s where id = %s and ended_at is null", (at, breach))


def _time(text: str | None) -> datetime | None:
    from datetime import datetime

    return datetime.fromisoformat(text) if text else None

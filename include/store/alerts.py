"""What other systems report: kept once each, announced until a monitor has looked at it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from include.store.decisions import LEASE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from include.monitoring.alerts import Alert
    from include.store.pool import Connection


@dataclass(frozen=True, slots=True)
class StoredAlert:
    """A row of ragworks.alert that no monitor has looked at."""

    id: int
    source: str
    key: str
    state: str
    title: str
    family: str | None
    detail: dict[str, Any]
    received_at: datetime


def save(connection: Connection, environment: str, collections: dict[str, int], alerts: Iterable[Alert]) -> int:
    """Keep reports.

    :param collections: name → id of every collection that they name.
    :return: how many were new.
    """
    new = 0
    for one in alerts:
        new += connection.execute(
            "insert into ragworks.alert (environment, collection_id, source, key, state, title, family, detail)"
            " values (%s, %s, %s, %s, %s, %s, %s, %s) on conflict do nothing",
            (
                environment, collections[one.collection], one.source, one.key, one.state, one.title, one.family,
                Jsonb(one.detail),
            ),
        ).rowcount  # fmt: skip
    return new


def waiting(connection: Connection, environment: str, collection: str, lease: float = LEASE_SECONDS) -> int:
    """Reports to announce: never announced, or announced and not looked at within ``lease`` seconds."""
    row = connection.execute(
        "select count(*) from ragworks.alert a join ragworks.collection c on c.id = a.collection_id where c.name = %s"
        " and a.environment = %s and a.seen_at is null"
        " and (a.announced_at is null or a.announced_at < now() - make_interval(secs => %s))",
        (collection, environment, lease),
    ).fetchone()
    return int(row[0]) if row else 0


def announce(connection: Connection, environment: str, collection: str, lease: float = LEASE_SECONDS) -> int:
    """Take what is to be announced: of several who ask at once, one gets it.

    :return: how many reports.
    """
    return connection.execute(
        "update ragworks.alert set announced_at = now() where id in (select a.id from ragworks.alert a"
        " join ragworks.collection c on c.id = a.collection_id where c.name = %s and a.environment = %s"
        " and a.seen_at is null and (a.announced_at is null or a.announced_at < now() - make_interval(secs => %s))"
        " for update of a skip locked)",
        (collection, environment, lease),
    ).rowcount


def unseen(connection: Connection, environment: str, collection: int) -> list[StoredAlert]:
    """Reports that no monitor has looked at, oldest first; held until the transaction ends."""
    with connection.cursor(row_factory=class_row(StoredAlert)) as cursor:
        return cursor.execute(
            "select id, source, key, state, title, family, detail, received_at from ragworks.alert"
            " where environment = %s and collection_id = %s and seen_at is null order by id for update skip locked",
            (environment, collection),
        ).fetchall()


def see(connection: Connection, alert: int, run_key: str, outcome: str) -> None:
    """A monitor has looked at a report.

    :param outcome: what came of it, one sentence.
    """
    connection.execute(
        "update ragworks.alert set seen_at = now(), run_key = %s, outcome = %s where id = %s", (run_key, outcome, alert)
    )


def was_told(connection: Connection, collection: int, subject: str) -> bool:
    """Whether people were told of something."""
    query = "select from ragworks.told where collection_id = %s and subject = %s"
    return connection.execute(query, (collection, subject)).fetchone() is not None


def note_told(connection: Connection, collection: int, subject: str) -> None:
    """People were told."""
    connection.execute(
        "insert into ragworks.told (collection_id, subject) values (%s, %s) on conflict do nothing", (collection, subject)
    )


@dataclass(frozen=True, slots=True)
class SeenAlert:
    """A report that a monitor has looked at, and what came of it."""

    id: int
    source: str
    state: str
    title: str
    outcome: str


def seen(connection: Connection, environment: str, collection: int, since: datetime) -> list[SeenAlert]:
    """Reports that were looked at since a moment, oldest first."""
    with connection.cursor(row_factory=class_row(SeenAlert)) as cursor:
        return cursor.execute(
            "select id, source, state, title, outcome from ragworks.alert where environment = %s and collection_id = %s"
            " and seen_at >= %s order by id",
            (environment, collection, since),
        ).fetchall()


def expire(connection: Connection, collection: int, keep_days: int) -> None:
    """Delete reports that a monitor has looked at, and what people were told, past ``keep_days``.

    Not within 30 days: what was told is not told again.
    """
    values = {"c": collection, "days": max(30, keep_days)}
    connection.execute(
        "delete from ragworks.alert where collection_id = %(c)s and seen_at is not null"
        " and received_at < now() - make_interval(days => %(days)s)",
        values,
    )
    connection.execute(
        "delete from ragworks.told where collection_id = %(c)s and told_at < now() - make_interval(days => %(days)s)", values
    )

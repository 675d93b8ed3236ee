"""What was decided on breaches, and who carries it out: events only wake up, these rows say what is to be done.

A decision that acts goes waiting → approved → claimed → started → done, or is refused by a person. Every step is one
statement that names the state it comes from, so that whoever comes second changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from include.store.pool import Connection

LEASE_SECONDS = 300  # a claim that did not lead to a start within it is given out again: its event was lost
OPEN = ("waiting", "approved", "claimed", "started")


@dataclass(frozen=True, slots=True)
class Claimed:
    """A decision whose event is to be sent by who claimed it.

    :param collection: its name.
    :param family: of the model to train or to roll back; None: another action.
    """

    id: int
    collection: str
    family: str | None
    action: str
    evidence: dict[str, Any]


@dataclass(frozen=True, slots=True)
class StoredDecision:
    """A row of ragworks.decision.

    :param at: end of the newest window that it rests on.
    :param mode: ``auto``, ``approve`` or ``notify``, as the policy had it.
    :param evidence: signals, facts, and the alternatives that were refused.
    :param breaches: ids.
    :param monitor_key: of the run that decided; ``run_key``: of the one that carries it out.
    :param outcome: what came of it.
    """

    id: int
    environment: str
    collection_id: int
    collection: str
    at: datetime
    action: str
    family: str | None
    mode: str
    state: str
    reason: str
    evidence: dict[str, Any]
    breaches: list[int]
    monitor_key: str
    run_key: str | None
    attempts: int
    claimed_by: str | None
    claimed_at: datetime | None
    actor: str
    outcome: dict[str, Any] | None
    created_at: datetime
    ended_at: datetime | None


def save(
    connection: Connection,
    *,
    environment: str,
    collection: int,
    at: datetime,
    action: str,
    family: str | None,
    mode: str,
    state: str,
    reason: str,
    evidence: Mapping[str, Any],
    breaches: Sequence[int],
    monitor_key: str,
) -> int | None:
    """Keep a decision.

    :return: its id; None: one was taken on the same window already, or another one is still open.
    """
    row = connection.execute(
        "insert into ragworks.decision (environment, collection_id, at, action, family, mode, state, reason, evidence,"
        " breaches, monitor_key, ended_at) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s,"
        " case when %s in ('done', 'refused') then now() end) on conflict do nothing returning id",
        (
            environment, collection, at, action, family, mode, state, reason, Jsonb(dict(evidence)), list(breaches),
            monitor_key, state,
        ),
    ).fetchone()  # fmt: skip
    return int(row[0]) if row else None


def claim(
    connection: Connection,
    *,
    worker: str,
    environment: str | None = None,
    family: str | None = None,
    limit: int = 10,
    lease: float = LEASE_SECONDS,
) -> list[Claimed]:
    """Take approved decisions, each for one worker; also claims that led to no start within ``lease`` seconds.

    :param worker: who takes them, for people who look.
    :param environment: of which; None: of all.
    :param family: trainings of this one alone; None: every action.
    :return: oldest first.
    """
    with connection.cursor(row_factory=class_row(Claimed)) as cursor:
        return cursor.execute(
            "with taken as (update ragworks.decision set state = 'claimed', claimed_by = %(worker)s, claimed_at = now(),"
            " attempts = attempts + 1 where id in (select id from ragworks.decision where (state = 'approved' or state ="
            " 'claimed' and claimed_at < now() - make_interval(secs => %(lease)s))"
            " and (%(environment)s::text is null or environment = %(environment)s)"
            " and (%(family)s::text is null or family = %(family)s and action = 'train')"
            " order by id for update skip locked limit %(limit)s) returning id, collection_id, family, action, evidence)"
            " select t.id, c.name as collection, t.family, t.action, t.evidence from taken t"
            " join ragworks.collection c on c.id = t.collection_id order by t.id",
            {"worker": worker, "environment": environment, "family": family, "limit": limit, "lease": lease},
        ).fetchall()


def answer(connection: Connection, decision: int, *, approved: bool, actor: str = "") -> bool:
    """A person's word on a decision that waits.

    :return: False: it no longer waits.
    """
    state = "approved" if approved else "refused"
    return bool(
        connection.execute(
            "update ragworks.decision set state = %s, actor = %s, ended_at = case when %s then null else now() end"
            " where id = %s and state = 'waiting'",
            (state, actor, approved, decision),
        ).rowcount
    )


def start(connection: Connection, decision: int, run_key: str) -> bool:
    """Say that a run carries it out.

    :return: True: this run is the one, also when it says so again; False: another one is, or it is over.
    """
    changed = connection.execute(
        "update ragworks.decision set state = 'started', run_key = %(key)s where id = %(id)s"
        " and (state in ('approved', 'claimed') or state = 'started' and run_key = %(key)s)",
        {"key": run_key, "id": decision},
    ).rowcount
    return bool(changed)


def finish(connection: Connection, decision: int, outcome: Mapping[str, Any]) -> bool:
    """What came of it; the first word stays.

    :return: False: it was over already.
    """
    return bool(
        connection.execute(
            "update ragworks.decision set state = 'done', outcome = coalesce(outcome, '{}') || %s, ended_at = now()"
            " where id = %s and state = any(%s)",
            (Jsonb(dict(outcome)), decision, list(OPEN)),
        ).rowcount
    )


def note_effect(connection: Connection, breach: int, effect: Mapping[str, Any]) -> None:
    """Say of every decision that rests on a breach what became of it: whether it helped."""
    connection.execute(
        "update ragworks.decision set outcome = coalesce(outcome, '{}') || jsonb_build_object('effect',"
        " coalesce(outcome -> 'effect', '{}') || %s) where %s = any(breaches)",
        (Jsonb(dict(effect)), breach),
    )


def by_id(connection: Connection, decision: int) -> StoredDecision | None:
    """One decision; None: there is none of this id."""
    found = _many(connection, sql.SQL("d.id = %s"), (decision,))
    return found[0] if found else None


def history(connection: Connection, environment: str, collection: int, limit: int = 100) -> list[StoredDecision]:
    """Decisions of a collection, newest first."""
    condition = sql.SQL("d.environment = %s and d.collection_id = %s order by d.at desc, d.id desc limit %s")
    return _many(connection, condition, (environment, collection, limit))


def since(connection: Connection, environment: str, collection: int, created: datetime) -> list[StoredDecision]:
    """Decisions of a collection that were taken since a moment, oldest first; ``nothing`` is left out."""
    condition = sql.SQL(
        "d.environment = %s and d.collection_id = %s and d.created_at >= %s and d.action <> 'nothing' order by d.at, d.id"
    )
    return _many(connection, condition, (environment, collection, created))


def of_window(connection: Connection, environment: str, collection: int, at: datetime) -> StoredDecision | None:
    """The decision on the windows up to a time; None: none was taken."""
    condition = sql.SQL("d.environment = %s and d.collection_id = %s and d.at = %s")
    found = _many(connection, condition, (environment, collection, at))
    return found[0] if found else None


def last_training(connection: Connection, environment: str, collection: int, before: datetime) -> datetime | None:
    """When a training was last decided that began, whatever came of it; None: never.

    One that was only told, refused or found already done began nothing.
    """
    row = connection.execute(
        "select max(at) from ragworks.decision where environment = %s and collection_id = %s and action = 'train'"
        " and mode <> 'notify' and run_key is not null and outcome ->> 'state' is distinct from 'skipped' and at < %s",
        (environment, collection, before),
    ).fetchone()
    return row[0] if row else None


def open_decision(connection: Connection, environment: str, collection: int) -> StoredDecision | None:
    """The one that waits or is carried out, if there is one."""
    condition = sql.SQL("d.environment = %s and d.collection_id = %s and d.state = any(%s)")
    found = _many(connection, condition, (environment, collection, list(OPEN)))
    return found[0] if found else None


def of_run(connection: Connection, run_key: str) -> StoredDecision | None:
    """The decision that a run carries out, if one asked for it."""
    found = _many(connection, sql.SQL("d.run_key = %s"), (run_key,))
    return found[0] if found else None


_SELECT = sql.SQL(
    "select d.id, d.environment, d.collection_id, c.name as collection, d.at, d.action, d.family, d.mode, d.state, d.reason,"
    " d.evidence, d.breaches, d.monitor_key, d.run_key, d.attempts, d.claimed_by, d.claimed_at, d.actor, d.outcome,"
    " d.created_at, d.ended_at from ragworks.decision d join ragworks.collection c on c.id = d.collection_id where "
)


def _many(connection: Connection, condition: sql.SQL, values: tuple[Any, ...]) -> list[StoredDecision]:
    with connection.cursor(row_factory=class_row(StoredDecision)) as cursor:
        return cursor.execute(_SELECT + condition, values).fetchall()

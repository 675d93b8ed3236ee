"""Which trained model serves: a row for each promotion and rollback, of which one is live (docs/decisions/0018).

Rows change under a lock of the collection, in the caller's transaction: of two promotions at once one comes after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from include.errors import Transient
from include.store import kept_out

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from typing import LiteralString

    from include.store.pool import Connection, Pool

DEPLOYMENT_LOCK, PROMOTION_LOCK = 0x5264, 0x5265  # advisory lock classes; the second key is the collection's id


@dataclass(frozen=True, slots=True)
class Deployment:
    """A row of ragworks.deployment, with the key and the artifact of its training.

    :param model_run_id: None: no trained model, what the collection file names served.
    :param settings: ``fingerprint`` of a reranker and its ``rerank_weight``; ``fingerprint`` of an adapter with the name and
        fingerprint of its base, ``base`` and ``base_fingerprint``; ``embedder``, the fingerprint of an embedder, and
        ``before``, that of the one whose index was live; ``unproved`` when the gate had not accepted it.
    :param replaces: the row that was live before.
    """

    id: int
    environment: str
    family: str
    collection_id: int
    model_run_id: int | None
    version: int | None
    action: str
    state: str
    settings: dict[str, Any]
    replaces: int | None
    verification: dict[str, Any] | None
    reason: str
    actor: str
    created_at: datetime
    ended_at: datetime | None
    run_key: str | None
    artifact: str | None


_SELECT = (
    "select d.id, d.environment, d.family, d.collection_id, d.model_run_id, d.version, d.action, d.state, d.settings,"
    " d.replaces, d.verification, d.reason, d.actor, d.created_at, d.ended_at, r.run_key, r.artifact"
    " from ragworks.deployment d left join ragworks.model_run r on r.id = d.model_run_id where "
)


def lock(connection: Connection, collection: int) -> None:
    """Hold the deployments of a collection until the transaction ends."""
    connection.execute("select pg_advisory_xact_lock(%s, %s)", (DEPLOYMENT_LOCK, collection))


@contextmanager
def promoting(pool: Pool, collection: int) -> Iterator[bool]:
    """Whether this process is the one that works on promotions of a collection's embedder; over when it dies."""
    key = (PROMOTION_LOCK, collection)
    with pool.connection() as connection:
        connection.autocommit = True  # it would be idle in a transaction for as long as an index is built
        try:
            row = connection.execute("select pg_try_advisory_lock(%s, %s)", key).fetchone()
            held = bool(row and row[0])
            try:
                yield held
            finally:
                if held and not connection.closed and not connection.broken:
                    connection.execute("select pg_advisory_unlock(%s, %s)", key)
        finally:
            if not connection.closed:
                connection.autocommit = False


def deployed(connection: Connection, environment: str, family: str, collection_id: int) -> Deployment | None:
    """What serves; None when nothing was ever promoted."""
    return _of_state(connection, environment, family, collection_id, "live")


def pending(connection: Connection, environment: str, family: str, collection_id: int) -> Deployment | None:
    """What is being promoted: an embedder whose index is still to be built."""
    return _of_state(connection, environment, family, collection_id, "pending")


def serving(connection: Connection, environment: str, family: str, collection: str, state: str = "live") -> Deployment | None:
    """What serves, by the collection's name: one statement, for who asks every few seconds.

    :param state: ``pending``: what is being promoted.
    """
    condition = (
        "d.state = %s and d.environment = %s and d.family = %s"
        " and d.collection_id = (select id from ragworks.collection where name = %s)"
    )
    return _one(connection, condition, (state, environment, family, collection))


def by_id(connection: Connection, deployment: int) -> Deployment:
    """A row that is known to be there; rows are never removed but with their collection."""
    found = _one(connection, "d.id = %s", (deployment,))
    if found is None:
        raise Transient(f"deployment {deployment} is gone", "its collection was removed meanwhile", "Run again")
    return found


def history(connection: Connection, environment: str, family: str, collection_id: int) -> list[Deployment]:
    """All rows, newest first."""
    return _many(
        connection, "d.environment = %s and d.family = %s and d.collection_id = %s order by d.id desc",
        (environment, family, collection_id),
    )  # fmt: skip


def rollbacks(connection: Connection, environment: str, collection_id: int, since: datetime) -> list[Deployment]:
    """Rollbacks since a moment, oldest first."""
    condition = "d.environment = %s and d.collection_id = %s and d.action = 'rollback' and d.created_at >= %s order by d.id"
    return _many(connection, condition, (environment, collection_id, since))


def of_family(connection: Connection, family: str, collection_id: int) -> list[Deployment]:
    """All rows of all environments, newest first."""
    return _many(connection, "d.family = %s and d.collection_id = %s order by d.id desc", (family, collection_id))


def previous(connection: Connection, live: Deployment) -> Deployment | None:
    """What served before another model came; what failed is passed over. None: what the collection file names."""
    earlier = live
    while earlier.replaces is not None:
        earlier = by_id(connection, earlier.replaces)
        if earlier.state != "failed" and earlier.model_run_id != live.model_run_id:
            return earlier
    return None


def begin(
    connection: Connection,
    environment: str,
    family: str,
    collection_id: int,
    *,
    model_run: int,
    version: int,
    settings: Mapping[str, Any],
    reason: str = "",
    actor: str = "",
) -> Deployment:
    """A promotion that is not live yet.

    :raises Transient: another one is on its way.
    """
    lock(connection, collection_id)
    if (waiting := pending(connection, environment, family, collection_id)) is not None:
        raise Transient(
            f"version {waiting.version} of the {family} is being promoted in {environment}", "one at a time",
            "Run again when it is done",
        )  # fmt: skip
    values = (environment, family, collection_id, model_run, version, "promote", "pending", settings, None, reason, actor)
    return _insert(connection, values)


def put_live(
    connection: Connection,
    environment: str,
    family: str,
    collection_id: int,
    *,
    model_run: int | None,
    version: int | None,
    settings: Mapping[str, Any],
    action: str = "promote",
    reason: str = "",
    actor: str = "",
    ended: str = "replaced",
) -> Deployment:
    """A model that serves from now on, in place of the one that did.

    :param model_run: None: no trained one.
    :param ended: the state of the one before: ``replaced``, or ``failed`` when it was found wanting.
    """
    lock(connection, collection_id)
    before = _end_live(connection, environment, family, collection_id, ended)
    return _insert(
        connection,
        (environment, family, collection_id, model_run, version, action, "live", settings, before, reason, actor),
    )


def make_live(connection: Connection, chosen: Deployment, *, ended: str = "replaced") -> Deployment:
    """A pending row serves, in place of what did.

    :param ended: as in :func:`put_live`.
    """
    lock(connection, chosen.collection_id)
    before = _end_live(connection, chosen.environment, chosen.family, chosen.collection_id, ended)
    changed = connection.execute(
        "update ragworks.deployment set state = 'live', replaces = %s where id = %s and state = 'pending'", (before, chosen.id)
    ).rowcount
    if not changed:
        raise Transient(f"deployment {chosen.id} is no longer pending", "it was given up meanwhile", "Run again")
    return by_id(connection, chosen.id)


def fail(connection: Connection, deployment: int, reason: str) -> None:
    """A pending row comes to nothing; its reason is added to what was said when it began."""
    connection.execute(
        "update ragworks.deployment set state = 'failed', ended_at = now(),"
        " reason = concat_ws('; ', nullif(reason, ''), %s::text) where id = %s and state = 'pending'",
        (reason, deployment),
    )


def save_verification(connection: Connection, deployment: int, verification: Mapping[str, Any]) -> None:
    """Keep what the smoke questions showed, without what was forgotten meanwhile."""
    with connection.transaction():
        # As `forget` does: one of the two waits for the other.
        row = connection.execute(
            "select collection_id from ragworks.deployment where id = %s for no key update", (deployment,)
        ).fetchone()
        kept = kept_out.less_forgotten(connection, int(row[0]) if row else 0, {"verification": dict(verification)})
        connection.execute(
            "update ragworks.deployment set verification = %s where id = %s", (Jsonb(kept["verification"]), deployment)
        )


def _end_live(connection: Connection, environment: str, family: str, collection_id: int, ended: str) -> int | None:
    row = connection.execute(
        "update ragworks.deployment set state = %s, ended_at = now()"
        " where environment = %s and family = %s and collection_id = %s and state = 'live' returning id",
        (ended, environment, family, collection_id),
    ).fetchone()
    return int(row[0]) if row else None


def _insert(connection: Connection, values: tuple[Any, ...]) -> Deployment:
    row = connection.execute(
        "insert into ragworks.deployment (environment, family, collection_id, model_run_id, version, action, state, settings,"
        " replaces, reason, actor) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) returning id",
        [Jsonb(dict(value)) if isinstance(value, Mapping) else value for value in values],
    ).fetchone()
    return by_id(connection, int(row[0]) if row else 0)


def _of_state(connection: Connection, environment: str, family: str, collection_id: int, state: str) -> Deployment | None:
    condition = "d.environment = %s and d.family = %s and d.collection_id = %s and d.state = %s"
    return _one(connection, condition, (environment, family, collection_id, state))


def _one(connection: Connection, condition: LiteralString, parameters: tuple[Any, ...]) -> Deployment | None:
    found = _many(connection, condition, parameters)
    return found[0] if found else None


def _many(connection: Connection, condition: LiteralString, parameters: tuple[Any, ...]) -> list[Deployment]:
    query = sql.SQL(_SELECT + condition)
    with connection.cursor(row_factory=class_row(Deployment)) as cursor:
        return cursor.execute(query, parameters).fetchall()

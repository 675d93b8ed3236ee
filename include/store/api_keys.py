"""API keys: only the hash of a key is stored; what it may do, where, and for whom it sees documents."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg
from psycopg.rows import class_row

from include.errors import BadConfiguration

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from include.store.pool import Connection

PREFIX = "rw_"
SCOPES = ("search", "rerank", "embed", "chat", "feedback", "metrics", "act_as")
DEFAULT_SCOPES = ("search", "rerank", "embed", "chat", "feedback")
_BYTES = 32  # of randomness, https://docs.python.org/3/library/secrets.html#how-many-bytes-should-tokens-use


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without itself.

    :param scopes: of :data:`SCOPES`.
    :param collections: which it may ask; None: all.
    :param principals: for whom its searches see documents that have an access list.
    """

    id: int
    name: str
    key_hash: bytes
    scopes: tuple[str, ...]
    collections: tuple[str, ...] | None
    principals: tuple[str, ...]
    requests_per_minute: int | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    def __post_init__(self) -> None:
        for name in ("scopes", "collections", "principals"):  # Postgres gives lists
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else tuple(value))

    @property
    def state(self) -> str:
        """active, expired or revoked."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= datetime.now(UTC) else "active"


def hashed(key: str) -> bytes:
    """What is stored of a key: it is random, so a quick hash without salt is enough."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def create_key(
    connection: Connection,
    name: str,
    *,
    scopes: Sequence[str] = DEFAULT_SCOPES,
    collections: Sequence[str] | None = None,
    principals: Sequence[str] = (),
    requests_per_minute: int | None = None,
    expires_at: datetime | None = None,
) -> str:
    """Make a key.

    :return: the key itself, which nothing can show again.
    :raises BadConfiguration: the name is taken.
    """
    key = PREFIX + secrets.token_urlsafe(_BYTES)
    try:
        connection.execute(
            "insert into ragworks.api_key (name, key_hash, scopes, collections, principals, requests_per_minute, expires_at)"
            " values (%s, %s, %s, %s, %s, %s, %s)",
            (
                name, hashed(key), list(scopes), None if collections is None else list(collections), list(principals),
                requests_per_minute, expires_at,
            ),
        )  # fmt: skip
    except psycopg.errors.UniqueViolation as error:
        raise BadConfiguration(
            f"key {name!r} exists already", "names are unique, those of revoked keys too", "Take another name"
        ) from error
    return key


def keys(connection: Connection) -> list[ApiKey]:
    """Every key, also expired and revoked ones, by name."""
    with connection.cursor(row_factory=class_row(ApiKey)) as cursor:
        return cursor.execute(
            "select id, name, key_hash, scopes, collections, principals, requests_per_minute, created_at, expires_at,"
            " revoked_at, last_used_at from ragworks.api_key order by name"
        ).fetchall()


def revoke_key(connection: Connection, name: str) -> ApiKey:
    """End a key; again changes nothing.

    :raises BadConfiguration: there is none of this name.
    """
    connection.execute("update ragworks.api_key set revoked_at = now() where name = %s and revoked_at is null", (name,))
    for key in keys(connection):
        if key.name == name:
            return key
    raise BadConfiguration(f"unknown key {name!r}", "none has this name", "ragworks keys list shows them")


def note_used(connection: Connection, ids: Iterable[int]) -> None:
    """Keep when keys were last used; precise to the interval in which the server writes."""
    connection.execute("update ragworks.api_key set last_used_at = now() where id = any(%s)", (sorted(ids),))

"""Says what a failure of Postgres means for a person: try again, make room, or ask somebody; a defect of ours is none of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import psycopg

from include.errors import BadConfiguration, RagworksError, ServiceUnavailable, Terminal, Transient

if TYPE_CHECKING:
    from collections.abc import Mapping

_AGAIN = "Run the command again: finished work is kept"


class _Meaning(NamedTuple):
    """The error class, what happened to the server (after its name), and what to do."""

    kind: type[RagworksError]
    what: str
    fix: str


_GONE = _Meaning(ServiceUnavailable, "went away", _AGAIN)
_FULL = _Meaning(Transient, "has no disk space left", "Free some, then run again: finished work is kept")

# By SQLSTATE, or its class (https://www.postgresql.org/docs/current/errcodes-appendix.html).
_MEANINGS: Mapping[str, _Meaning] = {
    "08": _GONE,
    "25006": _Meaning(ServiceUnavailable, "takes no writes", "Is it a standby, or set read-only? Give the primary's address"),
    "25P03": _GONE,
    "40": _Meaning(Transient, "undid a transaction that met another one", _AGAIN),
    "42501": _Meaning(BadConfiguration, "does not allow this", "Have an administrator grant the right to this user"),
    "53": _Meaning(Transient, "is short of something", _AGAIN),
    "53100": _FULL,
    "53200": _Meaning(Transient, "is out of memory", "Give it more, or lower its maintenance_work_mem; then run again"),
    "53300": _Meaning(Transient, "has no connection left", "Use fewer workers, or raise its max_connections; then run again"),
    "55P03": _Meaning(Transient, "waited too long for a lock", "Another run, or a person, holds it; run again later"),
    "57": _GONE,
    "57014": _Meaning(Transient, "cancelled a statement", "Is its statement_timeout too short? Then run again"),
    "58": _Meaning(ServiceUnavailable, "cannot use its files", "See the server's log; then run again"),
    "XX001": _Meaning(Terminal, "found damaged data", "Restore a backup, or rebuild the index from its source"),
    "XX002": _Meaning(Terminal, "found a damaged index", "Have it rebuilt: reindex"),
}  # fmt: skip


def translate(error: psycopg.Error, where: str = "") -> RagworksError | None:
    """What a person can do about it; None when the statement itself was wrong, which is a defect.

    :param where: host:port/database.
    """
    meaning = _meaning(error)
    if meaning is None:
        return None
    return meaning.kind(
        f"Postgres at {where} {meaning.what}" if where else f"Postgres {meaning.what}", first_line(error), meaning.fix
    )


def first_line(error: Exception) -> str:
    """Its message without details."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _meaning(error: psycopg.Error) -> _Meaning | None:
    state = error.sqlstate
    if state is None:  # it never came to the server, or nothing came back
        return _GONE if isinstance(error, psycopg.OperationalError) else None
    if state == "XX000" and "could not extend file" in str(error):  # a quota or a limit of file sizes: no state of its own
        return _FULL
    return _MEANINGS.get(state) or _MEANINGS.get(state[:2])

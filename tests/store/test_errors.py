"""What failures of Postgres are called, on a real server where it can be brought to fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.errors import lookup

from include.errors import BadConfiguration, RagworksError, ServiceUnavailable, Terminal, Transient
from include.store.errors import translate
from include.store.pool import open_pool

if TYPE_CHECKING:
    from include.config import Settings


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("08006", ServiceUnavailable), ("57P01", ServiceUnavailable), ("57P03", ServiceUnavailable),
        ("25006", ServiceUnavailable), ("58030", ServiceUnavailable), ("53100", Transient), ("53200", Transient),
        ("53300", Transient), ("53400", Transient), ("40001", Transient), ("40P01", Transient), ("55P03", Transient),
        ("57014", Transient), ("42501", BadConfiguration), ("XX001", Terminal), ("XX002", Terminal),
    ],
)  # fmt: skip
def test_a_failure_has_a_meaning(state: str, kind: type[RagworksError]) -> None:
    known = translate(lookup(state)("it said so\nDETAIL: and more"), "host:1/db")
    assert type(known) is kind
    assert str(known).startswith("Postgres at host:1/db ")
    assert "it said so. " in str(known)


@pytest.mark.parametrize("state", ["42601", "42P01", "23505", "22P02", "XX000"])
def test_a_wrong_statement_is_a_defect(state: str) -> None:
    assert translate(lookup(state)("syntax")) is None


def test_a_quota_is_a_full_disk() -> None:
    known = translate(lookup("XX000")('could not extend file "base/1/2": File too large'))
    assert known is not None
    assert "no disk space left" in str(known)


@pytest.mark.parametrize(
    ("statement", "kind", "said"),
    [
        ("select pg_terminate_backend(pg_backend_pid())", ServiceUnavailable, "went away"),
        ("set local statement_timeout = 1; select pg_sleep(1)", Transient, "cancelled a statement"),
        ("set transaction read only; create table t ()", ServiceUnavailable, "takes no writes"),
        ("set role pg_monitor; create table ragworks.t ()", BadConfiguration, "does not allow this"),
    ],
)
def test_in_a_pool(settings: Settings, statement: str, kind: type[RagworksError], said: str) -> None:
    with pytest.raises(kind, match=said), open_pool(settings) as pool, pool.connection() as connection:
        connection.execute(statement)  # type: ignore[call-overload]


def test_a_defect_stays_what_it_is(settings: Settings) -> None:
    with pytest.raises(psycopg.errors.SyntaxError), open_pool(settings) as pool, pool.connection() as connection:
        connection.execute("selekt 1")

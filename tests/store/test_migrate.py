"""Migrations: once each, frozen once shipped, definitions whenever they change."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import psycopg
import pytest

from include.errors import BadConfiguration
from include.store import migrate
from tests.conftest import new_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def database_url(postgres: str) -> Iterator[str]:
    """Of a database without our tables."""
    with new_database(postgres) as url:
        yield url


@pytest.fixture
def schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the shipped files, free to be edited."""
    copy = tmp_path / "schema"
    shutil.copytree(migrate.SCHEMA, copy)
    monkeypatch.setattr(migrate, "SCHEMA", copy)
    return copy


def _migrate(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return migrate.migrate(connection)


def test_a_second_call_does_nothing(database_url: str, schema: Path) -> None:
    assert _migrate(database_url)[0] == "incremental/0001_initial.sql"
    assert _migrate(database_url) == []


def test_a_shipped_migration_is_frozen(database_url: str, schema: Path) -> None:
    _migrate(database_url)
    with (schema / "incremental" / "0001_initial.sql").open("a") as file:
        file.write("-- edited\n")
    with pytest.raises(BadConfiguration, match="frozen"):
        _migrate(database_url)


def test_a_new_migration_is_applied_once(database_url: str, schema: Path) -> None:
    _migrate(database_url)
    (schema / "incremental" / "0002_more.sql").write_text("create table ragworks.more (id int)")
    assert _migrate(database_url) == ["incremental/0002_more.sql"]
    assert _migrate(database_url) == []


def test_definitions_follow_their_file(database_url: str, schema: Path) -> None:
    _migrate(database_url)
    (schema / "idempotent" / "views.sql").open("a").write("create or replace view ragworks.extra as select 1 as one;\n")
    assert _migrate(database_url) == ["idempotent/views.sql"]


def test_a_failing_migration_changes_nothing(database_url: str, schema: Path) -> None:
    (schema / "incremental" / "0002_wrong.sql").write_text("create table ragworks.half (id int); select 1/0")
    with pytest.raises(psycopg.errors.DivisionByZero):
        _migrate(database_url)
    with psycopg.connect(database_url) as connection:
        assert connection.execute("select to_regclass('ragworks.run')").fetchone() == (None,)

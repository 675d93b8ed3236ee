"""A real Postgres for the whole session, a fresh database and collection folder for each test."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import yaml
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from include.config import Settings
from include.store import embedded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

os.environ["HF_HUB_OFFLINE"] = "1"

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of an embedded server of this session."""
    home = tmp_path_factory.mktemp("postgres")
    yield embedded.ensure_running(home)
    embedded.stop(home)


@pytest.fixture
def database_url(postgres: str) -> Iterator[str]:
    """URL of an empty database."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    parts = conninfo_to_dict(postgres) | {"dbname": name}
    yield f"postgresql://{parts['user']}:{parts['password']}@{parts['host']}:{parts['port']}/{name}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Settings on the empty database, with an empty folder of collections."""
    collections = tmp_path / "collections"
    collections.mkdir()
    return Settings(database_url=database_url, home=tmp_path / "home", collections_dir=collections)


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """The folder that :func:`collection` indexes by default."""
    folder = tmp_path / "documents"
    folder.mkdir()
    return folder


@pytest.fixture
def collection(settings: Settings, documents: Path) -> Callable[..., str]:
    """Writes a collection file and returns its name."""

    def write(name: str = "handbook", **sections: Any) -> str:
        content = {"name": name, "source": {"type": "files", "path": str(documents)}, **sections}
        (settings.collections_dir / f"{name}.yaml").write_text(yaml.safe_dump(content))
        return name

    return write


@pytest.fixture
def environment(settings: Settings) -> dict[str, str]:
    """The same settings as environment variables, for child processes."""
    return os.environ | {
        "RAGWORKS_DATABASE_URL": settings.database_url or "",
        "RAGWORKS_HOME": str(settings.home),
        "RAGWORKS_COLLECTIONS_DIR": str(settings.collections_dir),
    }


@pytest.fixture
def shared_data() -> Path:
    """Real text with judgements, where the developers have it."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"needs the public test data in {SHARED_DATA}")
    return SHARED_DATA


def write_rows(path: Path, rows: list[Mapping[str, Any]]) -> None:
    """Write a jsonl file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

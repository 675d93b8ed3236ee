"""The zoo, indexed once with the real small model, and a way to make datasets of it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import yaml
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from include.config import Settings
from include.datasets.build import build_dataset
from include.datasets.options import DatasetOptions
from include.progress import Silent
from include.store import collections, datasets
from include.store.pool import open_pool
from tests.datasets.zoo import write_judgements, write_pages
from tests.support import index

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from include.store.datasets import Dataset, Pair
    from include.store.pool import Pool

TEMPLATE = "zoo"
_numbers = itertools.count()


@dataclass
class Zoo:
    """The collection `handbook`, its pool and its folder."""

    settings: Settings
    pool: Pool
    folder: Path

    @property
    def id(self) -> int:
        with self.pool.connection() as connection:
            return collections.collection_id(connection, "handbook")

    def judged(self, **options: Any) -> DatasetOptions:
        """Options with the judged questions; small sets are fine."""
        queries, qrels = write_judgements(self.folder.parent)
        return DatasetOptions(**{"queries": queries, "qrels": qrels, "min_train": 10, "min_dev": 5, **options})

    def build(self, options: DatasetOptions, **how: Any) -> Dataset:
        return build_dataset(self.settings, self.pool, "handbook", options, progress=Silent(), **how)

    def pairs(self, made: Dataset, split: str | None = None) -> list[Pair]:
        with self.pool.connection() as connection:
            return list(datasets.pairs(connection, made.id, split))


@pytest.fixture(scope="session")
def zoo_template(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with 30 pages in 90 chunks: embedded once, copied for each test."""
    _create(postgres, TEMPLATE)
    settings = _settings(_url(postgres, TEMPLATE), tmp_path_factory.mktemp("zoo"))
    write_pages(settings.home.parent / "documents")
    index(settings, "handbook")
    return TEMPLATE


@pytest.fixture
def zoo(postgres: str, zoo_template: str, tmp_path: Path) -> Iterator[Zoo]:
    """A copy of its own."""
    name = f"zoo_{next(_numbers)}"
    _create(postgres, name, zoo_template)
    settings = _settings(_url(postgres, name), tmp_path)
    write_pages(tmp_path / "documents")
    with open_pool(settings) as pool:
        yield Zoo(settings, pool, tmp_path / "documents")
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def _settings(url: str, folder: Path) -> Settings:
    for part in ("documents", "collections"):
        (folder / part).mkdir()
    content = {
        "name": "handbook", "source": {"type": "files", "path": str(folder / "documents")}, "chunking": {"max_tokens": 48},
        "validation": {"max_deleted": 1.0},
    }  # fmt: skip
    (folder / "collections" / "handbook.yaml").write_text(yaml.safe_dump(content))
    return Settings(database_url=url, home=folder / "home", collections_dir=folder / "collections")


def _create(postgres: str, name: str, template: str = "template1") -> None:
    statement = sql.SQL("create database {} template {} strategy file_copy")
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))


def _url(postgres: str, name: str) -> str:
    parts = conninfo_to_dict(postgres)
    return f"postgresql://{parts['user']}:{parts['password']}@{parts['host']}:{parts['port']}/{name}"

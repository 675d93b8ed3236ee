"""A real Postgres for the whole session, a fresh database and collection folder for each test."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import yaml
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from include.config import Settings
from include.store import embedded
from include.store.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from xdist.scheduler import LoadFileScheduling

os.environ["HF_HUB_OFFLINE"] = "1"
if "PYTEST_XDIST_WORKER" in os.environ:  # two workers with two threads each would wait for each other
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

# Files that run in one worker, one after the other: two stacks at once compete for ports and for the processor, and what
# the fault tests share (a warm process, templates of databases) is dear. Every other file is a group of its own.
GROUPS = {
    "tests/dags/test_live_airflow.py": "airflow",
    "tests/dags/test_live_training.py": "airflow",
    "tests/dags/test_live_monitoring.py": "airflow",
    "tests/stack/test_airflow.py": "airflow",
    "tests/promises/test_fault_matrix.py": "faults",
    "tests/promises/test_other_faults.py": "faults",
}
# What takes longest begins first, so that no worker is left with it at the end.
FIRST = (
    "tests/promises/test_fault_matrix.py",
    "tests/promises/test_other_faults.py",
    "tests/dags/test_live_airflow.py",
    "tests/dags/test_live_training.py",
    "tests/dags/test_live_monitoring.py",
    "tests/stack/test_airflow.py",
    "tests/promises",
    "tests/evaluation",
    "tests/training",
    "tests/registry",
    "tests/kubernetes",
    "tests/serving",
    "tests/retrieval",
    "tests/privacy",
    "tests/indexing",
    "tests/dags",
)

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
_numbers = itertools.count()


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--thorough``: also what only repeats at more points what is tested anyway."""
    parser.addoption("--thorough", action="store_true", help="also run the tests that are marked thorough")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put first what takes longest (without workers the order stays), and leave out what is thorough unless it is asked for."""
    if not config.getoption("thorough"):
        further = [item for item in items if item.get_closest_marker("thorough")]
        config.hook.pytest_deselected(items=further)
        items[:] = [item for item in items if not item.get_closest_marker("thorough")]

    def place(item: pytest.Item) -> int:
        return next((number for number, first in enumerate(FIRST) if item.nodeid.startswith(first)), len(FIRST))

    if hasattr(config, "workerinput"):
        items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    """``--dist loadfile``, with the groups above. ``loadgroup`` does nothing under pytest 9.2: pytest-xdist issue 1386."""
    from xdist.scheduler import LoadFileScheduling

    class LoadGroups(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return GROUPS.get(file, file)

    return LoadGroups(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of an embedded server of this session."""
    home = tmp_path_factory.mktemp("postgres")
    url = embedded.ensure_running(home)
    never_wait_for_the_disk(url)
    yield url
    embedded.stop(home)


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """What a test sets is gone after it: a task that Airflow runs in this process leaves its handler of SIGTERM."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def migrated(postgres: str) -> Iterator[str]:
    """Name of a database with our tables, to be copied: that takes a fifth of the time of making them."""
    with new_database(postgres) as url:
        with psycopg.connect(url) as connection:
            migrate(connection)
        yield str(conninfo_to_dict(url)["dbname"])


@pytest.fixture
def database_url(postgres: str, migrated: str) -> Iterator[str]:
    """URL of a database with our tables and nothing in them."""
    with new_database(postgres, template=migrated) as url:
        yield url


@contextmanager
def new_database(postgres: str, *, template: str = "template1") -> Iterator[str]:
    """URL of a database that is there for a while."""
    name = f"test_{next(_numbers)}"
    made, copied = sql.Identifier(name), sql.Identifier(template)
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {} template {} strategy file_copy").format(made, copied))
    parts = conninfo_to_dict(postgres) | {"dbname": name}
    yield f"postgresql://{parts['user']}:{parts['password']}@{parts['host']}:{parts['port']}/{name}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(made))


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Settings on the empty database, with an empty folder of collections."""
    collections = tmp_path / "collections"
    collections.mkdir()
    return Settings(database_url=database_url, home=tmp_path / "home", collections_dir=collections)


@pytest.fixture
def before_tables(postgres: str, settings: Settings) -> Iterator[Settings]:
    """The same on a database in which nothing of ours is yet."""
    with new_database(postgres) as url:
        yield settings.model_copy(update={"database_url": url})


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


def never_wait_for_the_disk(url: str) -> None:
    """Tests kill processes, never the machine; on a busy disk a database takes a second to make and another to drop."""
    with psycopg.connect(url, autocommit=True) as connection:
        for setting in (b"fsync", b"full_page_writes"):
            connection.execute(b"alter system set %s = off" % setting)
        connection.execute("select pg_reload_conf()")


def free_port() -> int:
    """A free port below those that the system gives to clients, which may take one before a slow server listens on it."""
    return next(port for port in iter(lambda: random.randrange(20_000, 30_000), 0) if embedded.port_is_free(port))


def write_rows(path: Path, rows: list[Mapping[str, Any]]) -> None:
    """Write a jsonl file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

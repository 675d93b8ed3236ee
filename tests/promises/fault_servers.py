"""A warm server of child processes, and the databases of a Postgres server: what the fault tests run on."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

if TYPE_CHECKING:
    from tests.promises.faults import Job

ROOT = Path(__file__).resolve().parents[2]
_numbers = itertools.count()


class Children:
    """The warm process of :mod:`tests.promises.faults`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.promises.faults"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._answer() == "ready"

    def run(self, *jobs: Job) -> list[int]:
        """Exit codes of jobs that run at the same time."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([job.as_json() for job in jobs]) + "\n")
        self._process.stdin.flush()
        ended = self._answer()
        assert isinstance(ended, list)
        return ended

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline() or '"the server of children ended"')

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@dataclass(frozen=True)
class Databases:
    """Makes, copies and drops databases of one server."""

    admin: str

    def url(self, name: str) -> str:
        parts = conninfo_to_dict(self.admin) | {"dbname": name}
        return f"postgresql://{parts['user']}:{parts['password']}@{parts['host']}:{parts['port']}/{name}"

    def make(self, template: str = "template1", tablespace: str = "pg_default") -> str:
        """A database, empty or a copy of another that nobody is connected to."""
        name = f"fault_{next(_numbers)}"
        self.execute("create database {} template {} tablespace {} strategy file_copy", name, template, tablespace)
        return name

    def drop(self, name: str) -> None:
        self.execute("drop database {} with (force)", name)

    def wait_until_idle(self, name: str) -> None:
        """Wait until the server noticed that its clients died."""
        deadline = time.monotonic() + 30
        with psycopg.connect(self.admin, autocommit=True) as connection:
            while connection.execute("select count(*) from pg_stat_activity where datname = %s", (name,)).fetchone() != (0,):
                assert time.monotonic() < deadline, f"{name} is still in use"
                time.sleep(0.01)

    def execute(self, statement: str, *names: str) -> None:
        with psycopg.connect(self.admin, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

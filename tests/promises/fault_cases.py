"""A collection that a fault is brought upon, and what a right index looks like afterwards."""

from __future__ import annotations

import itertools
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import yaml
from pgvector.psycopg import register_vector
from psycopg import sql

from include.config import Settings
from include.store import chunks, generations
from tests.promises.faults import Job
from tests.support import assert_same_index

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.promises.fault_servers import Children, Databases

KILLED = -9
_numbers = itertools.count()

CLEAN = {
    "items left in the queue": "select count(*) from ragworks.work_item",
    "documents left staged": "select count(*) from ragworks.generation_document where staged",
    "runs that never end": "select count(*) from ragworks.run where state = 'running'",
    "generations never finished": "select count(*) from ragworks.generation where state = 'building'",
    "objects to be read again": "select count(*) from ragworks.source_object"
    " where state = 'present' and (fingerprint = '' or attempts > 0)",
    "objects nobody shows": "select count(*) from ragworks.source_object o where state = 'vanished' and not exists"
    " (select from ragworks.document d where d.object_uri = o.uri and d.state <> 'deleted')",
    "documents nobody holds": "select count(*) from ragworks.document d where state = 'deleted' and not exists"
    " (select from ragworks.generation_document g where g.document_id = d.id)",
    "texts nobody holds": "select count(*) from ragworks.document_text t"
    " where not exists (select from ragworks.document d where d.content_hash = t.content_hash)"
    " and not exists (select from ragworks.generation_document g where g.content_hash = t.content_hash)",
    "differences to the source": "select count(*) from ragworks.generation g, ragworks.changes(g.collection_id, g.id)"
    " where g.state = 'live'",
    "tables of dropped generations": "select count(*) from pg_tables where schemaname = 'ragworks'"
    " and tablename ~ '^(chunks|spans|staged)_[0-9]+$'"
    " and substring(tablename from '[0-9]+')::bigint not in (select id from ragworks.generation)",
    "live generations without a sound vector index": "select count(*) from ragworks.generation g where state = 'live'"
    " and not exists (select from pg_index i where i.indexrelid = to_regclass('ragworks.chunks_' || g.id || '_hnsw')"
    "  and i.indisvalid)",
    "locks held": "select count(*) from pg_locks where locktype = 'advisory'"
    " and database = (select oid from pg_database where datname = current_database())",
}


_ACCESS = """
select d.uri, h.acl, h.metadata from ragworks.generation g
join ragworks.generation_document h on h.generation_id = g.id and not h.staged
join ragworks.document d on d.id = h.document_id where g.state = 'live' order by d.uri
"""
_REFUSED = """
select distinct uri, locator, stage, expectation from ragworks.quarantine q
left join ragworks.generation g on g.id = q.generation_id
where resolved_at is null and coalesce(g.state, 'live') = 'live' order by uri, locator, stage
"""


@dataclass(frozen=True)
class State:
    """What those who query see, and what is shown as refused."""

    rows: list[dict[str, Any]]
    access: list[tuple[Any, ...]]
    refused: list[tuple[Any, ...]]

    @property
    def live(self) -> tuple[list[dict[str, Any]], list[tuple[Any, ...]]]:
        """What queries see, without the vectors, which are compared with a tolerance."""
        return [{k: v for k, v in row.items() if k != "embedding"} for row in self.rows], self.access


@dataclass(frozen=True)
class Case:
    """One collection in one database, on a source that can be exchanged."""

    children: Children
    databases: Databases
    database: str
    folder: Path
    sources: Path
    kind: str

    @property
    def settings(self) -> Settings:
        return Settings(
            database_url=self.databases.url(self.database),
            home=self.folder / "home",
            collections_dir=self.folder / "collections",
        )

    def source(self, state: str, tokens: int = 60, **sections: Any) -> None:
        """Show the ``old`` or the ``new`` documents from now on, with these settings."""
        shown, made = self.folder / "source", self.folder / "made"
        made.unlink(missing_ok=True)
        made.symlink_to(self.sources / self.kind / state)
        made.replace(shown)
        content = {
            "name": "handbook",
            "source": {"type": "jsonl" if self.kind == "rows" else "files", "path": str(shown)},
            "chunking": {"max_tokens": tokens},
            "validation": {"max_rejected": 0.6, "max_deleted": 0.6},
            "generations": {"max_quality_loss": 1.0},
        }
        path = self.folder / "collections" / "handbook.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(content | sections))

    def job(self, **options: Any) -> Job:
        """A job on this case."""
        log, marker = self.folder / f"log-{next(_numbers)}", self.folder / f"marker-{next(_numbers)}"
        here = Job(
            str(self.settings.database_url), str(self.folder / "home"), str(self.folder / "collections"), str(log), str(marker)
        )
        return replace(here, **options)

    def add(self, name: str, text: str) -> None:
        """Show the documents of now and one more; the folder becomes the case's own."""
        folder = self.folder / "own"
        shutil.copytree(self.folder / "source", folder)
        (folder / name).write_text(text)
        (self.folder / "source").unlink()
        (self.folder / "source").symlink_to(folder)
        time.sleep(0.1)  # files that were just written count as changing

    def run(self, **options: Any) -> Job:
        """Do a job that is to succeed."""
        job = self.job(**options)
        self.check(job, self.children.run(job)[0])
        return job

    def check(self, job: Job, code: int) -> None:
        """A job was to succeed."""
        assert code == 0, f"exit code {code}:\n{Path(job.log).read_text()}"

    def state(self) -> State:
        """What is live now; nothing where no run ever came."""
        with self.connect() as connection:
            if connection.execute("select to_regclass('ragworks.migration') is null").fetchone() == (True,):
                return State([], [], [])
            live, rows = self._live(connection), []
            if live is not None:
                register_vector(connection)
                rows = list(chunks.export_chunks(connection, live, vectors=True))
            access, refused = connection.execute(_ACCESS).fetchall(), connection.execute(_REFUSED).fetchall()
            return State(rows, access, refused)

    def assert_right(self, expected: State) -> None:
        """The index is the expected one, and nothing of what was interrupted is left."""
        found = self.state()
        assert_same_index(found.rows, expected.rows)
        assert found.access == expected.access
        assert found.refused == expected.refused
        with self.connect() as connection:
            counted = {what: connection.execute(statement).fetchone() for what, statement in CLEAN.items()}
            live = self._live(connection)
            assert live is not None
            places = [
                connection.execute(sql.SQL("select count(*) from {}").format(t)).fetchone() for t in (live.chunks, live.spans)
            ]
        assert places == [(len(expected.rows),)] * 2  # no vector without a place in a document, and none without a vector
        left = {what: count for what, count in counted.items() if count != (0,)}
        assert not left, left

    def _live(self, connection: psycopg.Connection[tuple[Any, ...]]) -> generations.Generation | None:
        row = connection.execute("select id from ragworks.generation where state = 'live'").fetchone()
        return generations.generation(connection, row[0]) if row else None

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection to the case's database."""
        return psycopg.connect(self.databases.url(self.database))

    def copy(self) -> Case:
        """The same in another database and folder; nobody may be connected."""
        self.databases.wait_until_idle(self.database)
        return new_case(self.children, self.databases, self.sources, self.kind, self.folder.parent, self.database)

    def drop(self) -> None:
        self.databases.drop(self.database)


def new_case(
    children: Children,
    databases: Databases,
    sources: Path,
    kind: str,
    parent: Path,
    template: str = "template1",
    tablespace: str = "pg_default",
) -> Case:
    """A case in a folder of its own."""
    folder = parent / f"case-{next(_numbers)}"
    (folder / "collections").mkdir(parents=True)
    return Case(children, databases, databases.make(template, tablespace), folder, sources, kind)


class Cases:
    """Cases that begin with the old state live, and what a rebuild of each state looks like; each made once."""

    def __init__(self, children: Children, databases: Databases, sources: Path, folder: Path) -> None:
        self.children, self.databases, self._sources, self._folder = children, databases, sources, folder
        self._template = cache(self._make_template)
        self.rebuilt = cache(self._rebuild)

    @contextmanager
    def case(self, kind: str, *, live: bool = True, tablespace: str = "pg_default") -> Iterator[Case]:
        """A case; with the old state live, or never indexed."""
        template = self._template(kind).database if live else "template1"
        case = new_case(self.children, self.databases, self._sources, kind, self._folder, template, tablespace)
        case.source("old")
        try:
            yield case
        finally:
            case.drop()

    def _make_template(self, kind: str) -> Case:
        case = new_case(self.children, self.databases, self._sources, kind, self._folder)
        case.source("old")
        case.run()
        case.databases.wait_until_idle(case.database)
        return case

    def _rebuild(self, kind: str, state: str, tokens: int = 60) -> State:
        """What an index built from scratch looks like."""
        with self.case(kind, live=False) as case:
            case.source(state, tokens)
            case.run()
            found = case.state()
            case.assert_right(found)
            assert found.rows
            return found

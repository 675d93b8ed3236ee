"""The role that docs/operations.md makes may do all that a server does, and nothing else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import httpx
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from include.config import PROJECT_ROOT, Settings
from include.serving.housekeeping import expire_all
from include.store import reranking_rates, shadow
from include.store.pool import open_pool
from include.store.shadow import Compared
from tests.serving.conftest import DOCUMENTS, make_key, running, write_collection, write_documents
from tests.support import HashEmbedder, index, query

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from uuid import UUID

ROLE = "ragworks_serve"


@pytest.fixture
def owner(settings: Settings, llm: str, tmp_path: Path) -> Settings:
    """Settings of the role that indexes, with an index and a key."""
    settings = settings.model_copy(update={"llm_base_url": llm, "llm_model": "fake"})
    write_documents(tmp_path / "documents.db", DOCUMENTS)
    write_collection(settings, "handbook", tmp_path / "documents.db")
    index(settings, "handbook", embedder=HashEmbedder())
    return settings


@pytest.fixture
def serving(owner: Settings) -> Iterator[Settings]:
    """The same as the role that only serves, with the rights that the page gives it."""
    url = owner.database_url or ""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("drop role if exists ragworks_serve")
        connection.execute("create role ragworks_serve login password 'serve'")
        connection.execute(_grants().encode())
    parts = conninfo_to_dict(url)
    yield owner.model_copy(
        update={"database_url": f"postgresql://{ROLE}:serve@{parts['host']}:{parts['port']}/{parts['dbname']}"}
    )
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("drop owned by ragworks_serve")
        connection.execute("drop role ragworks_serve")


def _grants() -> str:
    page = (PROJECT_ROOT / "docs" / "operations.md").read_text()
    found = re.search(r"### A role that only serves\n.*?```sql\n(.*?)```", page, flags=re.DOTALL)
    assert found, "docs/operations.md no longer says what such a role needs"
    return found.group(1)


def test_it_serves(owner: Settings, serving: Settings) -> None:
    key = make_key(owner, "user")
    with running(serving) as (url, service), httpx.Client(base_url=url, timeout=60) as client:
        client.headers["Authorization"] = f"Bearer {key}"
        found = client.post("/v1/search", json={"collection": "handbook", "query": "kangaroo pouch"})
        said = client.post(
            "/v1/chat/completions", json={"model": "handbook", "messages": [{"role": "user", "content": "kangaroo pouch?"}]}
        )
        assert (found.status_code, said.status_code) == (200, 200)
        asked, answered = found.json()["id"], said.json()["passport"]["id"]
        for one in (asked, answered):
            assert client.post("/v1/feedback", json={"query_id": one, "thumb": 1, "comment": "good"}).status_code == 201
        assert client.get(f"/v1/answers/{answered}").status_code == 200
        assert service.logbook.flush()
        _shadow(owner, serving, asked)
        _make_old(owner)
        expire_all(service)
    rest = "select (select count(*) from ragworks.query_log), (select count(*) from ragworks.feedback),"
    assert query(owner, f"{rest} (select count(*) from ragworks.alert), (select count(*) from ragworks.told)") == [(0, 0, 0, 0)]
    assert query(owner, "select last_used_at is not null from ragworks.api_key") == [(True,)]


def test_it_forgets_texts_and_keeps_the_rows(owner: Settings, serving: Settings) -> None:
    key = make_key(owner, "user")
    with running(serving) as (url, service), httpx.Client(base_url=url, timeout=60) as client:
        body = {"model": "handbook", "messages": [{"role": "user", "content": "kangaroo pouch?"}]}
        said = client.post("/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {key}"})
        assert said.status_code == 200
        assert service.logbook.flush()
        _execute(owner, "update ragworks.query_log set created_at = now() - interval '40 days'")
        expire_all(service)
    rows = "select q.query, a.text, s.text from ragworks.query_log q join ragworks.answer a using (id)"
    assert query(owner, f"{rows} join ragworks.answer_source s on s.answer_id = a.id limit 1") == [(None, None, None)]


def test_it_may_do_nothing_else(serving: Settings) -> None:
    with open_pool(serving) as pool, pool.connection() as connection:
        reranking_rates.save_rate(connection, "here", "some", 10, 1.0)
        for table in ("document", "collection", "generation", "golden_query", "deployment"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                connection.execute(b"delete from ragworks.%s" % table.encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
            connection.execute("update ragworks.api_key set revoked_at = null")


def _shadow(owner: Settings, serving: Settings, asked: UUID) -> None:
    """What the thread beside the requests writes."""
    ((training,),) = query(
        owner,
        "insert into ragworks.model_run (run_key, family, collection_id, arguments, work_hash, state, base, base_fingerprint,"
        " code_version) values ('key', 'reranker', 1, '{}', 'w', 'evaluated', 'b', 'f', 'c') returning id",
    )
    with open_pool(serving) as pool, pool.connection() as connection:
        assert shadow.save(connection, Compared(asked, int(training), 5, error="TimeoutError"))


def _make_old(owner: Settings) -> None:
    """As if all had been two years ago, with a report and a note of that time."""
    for statement in (
        "update ragworks.query_log set created_at = now() - interval '2 years'",
        "insert into ragworks.alert (environment, collection_id, source, key, state, title, received_at, seen_at) values"
        " ('production', 1, 'plain', 'k', 'firing', 't', now() - interval '2 years', now())",
        "insert into ragworks.told (collection_id, subject, told_at) values (1, 'breach:1', now() - interval '2 years')",
    ):
        _execute(owner, statement)


def _execute(settings: Settings, statement: str) -> None:
    with psycopg.connect(settings.database_url or "", autocommit=True) as connection:
        connection.execute(statement.encode())

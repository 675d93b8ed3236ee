"""What is logged, for how long, who may see it, and that nothing of it is lost in an orderly stop."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from include.collection_file import Collection, QueryLog, load_collection
from include.serving.logbook import Entry, Logbook
from include.serving.metrics import Metrics
from include.store import collections, forgotten, query_log
from include.store.pool import open_pool
from include.store.query_log import LoggedQuery
from tests.serving.conftest import DOCUMENTS, make_key, running, write_collection, write_documents
from tests.support import HashEmbedder, index, query

if TYPE_CHECKING:
    from pathlib import Path

    from include.config import Settings
    from include.serving.service import Service
    from tests.serving.conftest import Client


def _row(settings: Settings, query_id: str) -> dict[str, Any]:
    names = ["id", "kind", "query", "embedding", "passport", "results", "status", "seconds", "api_key_id", "generation_id"]
    (row,) = query(settings, f"select {', '.join(names)} from ragworks.query_log where id = %s", query_id)
    return dict(zip(names, row, strict=True))


def test_a_search_is_logged(client: Client, service: Service, served: Settings) -> None:
    body = client.search("where is the pouch?", top_k=2).json()
    assert service.logbook.flush()
    row = _row(served, body["id"])
    assert (row["kind"], row["status"], row["query"]) == ("search", "ok", "where is the pouch?")
    assert row["passport"]["generation"] == row["generation_id"]
    assert [r["document"] for r in row["results"]] == [r["document"] for r in body["results"]]
    assert "text" not in row["results"][0]
    assert row["embedding"].dimensions() == 64
    assert row["seconds"]["total"] > 0
    assert query(served, "select name from ragworks.api_key where id = %s", row["api_key_id"]) == [("user",)]
    assert query(served, "select last_used_at from ragworks.api_key where name = 'user'") != [(None,)]


def test_what_failed_is_logged_as_failed_and_what_nobody_waited_for_is_not(own: Settings) -> None:
    key = make_key(own, "user")
    login = {"Authorization": f"Bearer {key}"}
    said = {"model": "handbook", "messages": [{"role": "user", "content": "kangaroo pouch"}], "stream": True}
    with running(own) as (url, service):
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=said, headers=login, timeout=90) as reply:
            next(reply.iter_lines())
        long = {"collection": "handbook", "query": "x" * 100_000}
        assert httpx.post(f"{url}/v1/search", json=long, headers=login).status_code == 400
        ((table,),) = query(own, "select 'ragworks.chunks_' || max(id) from ragworks.generation where state = 'live'")
        with open_pool(own) as pool, pool.connection() as connection:
            connection.execute(f"alter table {table} rename to elsewhere")
        search = {"collection": "handbook", "query": "kangaroo pouch"}
        assert httpx.post(f"{url}/v1/search", json=search, headers=login).status_code == 500
        assert httpx.post(f"{url}/v1/chat/completions", json=said, headers=login).status_code == 500
        rows: list[Any] = []
        for _ in range(100):  # the server notices a moment later that nobody listens
            assert service.logbook.flush()
            rows = query(own, "select kind, status from ragworks.query_log order by kind, status")
            if len(rows) == 3:
                break
            time.sleep(0.1)
    assert rows == [("chat", "failed"), ("chat", "ok"), ("search", "failed")]


def test_a_rerank_is_logged_without_the_documents(client: Client, service: Service, served: Settings) -> None:
    body = {"model": "handbook", "query": "light", "documents": ["my private text", "another"]}
    reply = client.post("/v1/rerank", body).json()
    assert service.logbook.flush()
    row = _row(served, reply["id"])
    assert [r["index"] for r in row["results"]] == [r["index"] for r in reply["results"]]
    assert "private" not in str(row)


def test_an_answer_can_be_fetched_and_judged_at_once(client: Client) -> None:
    """By the key that asked, and by one that may act as anybody; for others there is none."""
    chat = client.chat("Where do kangaroos carry their young?").json()
    query_id = chat["passport"]["id"]
    stored = client.get(f"/v1/answers/{query_id}")
    assert stored.status_code == 200, stored.text
    assert stored.json()["text"] == chat["choices"][0]["message"]["content"]
    assert stored.json()["sources"][0]["text"]
    assert client.get(f"/v1/answers/{query_id}", key="hr").status_code == 404
    assert client.get(f"/v1/answers/{query_id}", key="other").status_code == 404
    assert client.get(f"/v1/answers/{query_id}", key="agent").status_code == 200
    given = {"query_id": query_id, "thumb": -1, "answer": "In a pouch.", "document": "animals", "start": 0, "end": 9}
    assert client.post("/v1/feedback", given).status_code == 201
    assert client.post("/v1/feedback", given, key="hr").status_code == 404
    assert client.post("/v1/feedback", {"query_id": query_id}).status_code == 400
    assert client.post("/v1/feedback", {"query_id": "no-uuid", "thumb": 1}).status_code == 400
    unknown = "00000000-0000-4000-8000-000000000000"
    assert client.post("/v1/feedback", {"query_id": unknown, "thumb": 1}).status_code == 404
    assert client.get("/v1/answers/no-uuid").status_code == 400


def test_a_restricted_document_is_not_in_the_log_of_others(client: Client, service: Service, served: Settings) -> None:
    asked = [client.search("kangaroo budget").json()["id"], client.chat("kangaroo budget").json()["passport"]["id"]]
    assert service.logbook.flush()
    rows = str([_row(served, one) for one in asked])
    assert "salaries" not in rows
    assert "ninety thousand" not in rows
    sources = query(served, "select uri, text from ragworks.answer_source where answer_id = any(%s::uuid[])", asked)
    assert sources
    assert "salaries" not in str(sources)


@pytest.fixture
def own(settings: Settings, tmp_path: Path, served: Settings) -> Settings:
    """A collection of its own, whose settings a test changes."""
    write_documents(tmp_path / "documents.db", DOCUMENTS)
    write_collection(settings, "handbook", tmp_path / "documents.db")
    index(settings, "handbook", embedder=HashEmbedder())
    return settings.model_copy(update={"llm_base_url": served.llm_base_url, "llm_model": "fake"})


def _ask(url: str, key: str, text: str) -> dict[str, Any]:
    login = {"Authorization": f"Bearer {key}"}
    body = {"model": "handbook", "messages": [{"role": "user", "content": text}]}
    reply = httpx.post(f"{url}/v1/chat/completions", json=body, headers=login, timeout=90)
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def test_texts_that_must_not_be_kept(own: Settings, tmp_path: Path) -> None:
    """keep_texts_days 0: none is written, not even for a moment; what is scrubbed never is. A stop loses no row."""
    key = make_key(own, "user")
    write_collection(own, "handbook", tmp_path / "documents.db", query_log={"keep_texts_days": 0})
    with running(own) as (url, _):
        _ask(url, key, "kangaroo pouch")
    assert query(own, "select query, embedding::text from ragworks.query_log") == [(None, None)]
    assert query(own, "select question, text from ragworks.answer") == [(None, None)]
    write_collection(own, "handbook", tmp_path / "documents.db", guardrails={"scrub_queries": ["EMAIL_ADDRESS"]})
    with running(own) as (url, _):
        reply = _ask(url, key, "kangaroo of jane@example.com")
    assert "pii_in_question" in reply["flags"]
    rows = query(own, "select query, embedding::text from ragworks.query_log where query is not null")
    assert rows == [("kangaroo of <EMAIL_ADDRESS>", None)]
    assert "jane@example.com" not in str(query(own, "select a.*, q.passport from ragworks.answer a, ragworks.query_log q"))


def test_retention_and_erasure(own: Settings) -> None:
    key = make_key(own, "user")
    with running(own) as (url, _):
        ids = [_ask(url, key, text)["passport"]["id"] for text in ("kangaroo pouch", "old pouch", "very old pouch")]
        for one in ids:
            given = {"query_id": one, "thumb": 1, "comment": "as animals says"}
            assert httpx.post(f"{url}/v1/feedback", json=given, headers={"Authorization": f"Bearer {key}"}).status_code == 201
    with open_pool(own) as pool, pool.connection() as connection:
        for one, days in ((ids[1], 40), (ids[2], 400)):
            connection.execute(
                "update ragworks.query_log set created_at = now() - make_interval(days => %s) where id = %s", (days, one)
            )
        collection = collections.collection_id(connection, "handbook")
        assert query_log.expire(connection, collection, QueryLog()) == {"texts": 1, "rows": 1}
        assert query_log.expire(connection, collection, QueryLog()) == {"texts": 0, "rows": 0}
    kept = query(own, "select q.query, a.text is null, f.comment from ragworks.query_log q join ragworks.answer a using (id)"
                      " join ragworks.feedback f on f.query_id = q.id order by q.created_at")  # fmt: skip
    assert kept == [(None, True, None), ("kangaroo pouch", False, "as animals says")]
    assert "quote" not in str(query(own, "select citations from ragworks.answer where id = %s", ids[1]))
    with open_pool(own) as pool, pool.connection() as connection:
        forgotten.forget(connection, collection, "animals")
    left = query(own, "select results::text, passport::text, query from ragworks.query_log")
    left += query(own, "select answer, document, comment from ragworks.feedback")
    assert "animals" not in str(left)
    assert query(own, "select count(*), sum(thumb) from ragworks.feedback") == [(2, 2)]  # thumbs stay


def test_a_slow_database_loses_the_oldest_and_says_so(own: Settings, caplog: pytest.LogCaptureFixture) -> None:
    metrics, settings = Metrics(), load_collection(own, "handbook")
    with open_pool(own) as pool:
        logbook = Logbook(pool, metrics, capacity=50)
        with pool.connection() as blocker:
            blocker.execute("lock table ragworks.query_log in exclusive mode")
            collection = collections.collection_id(blocker, "handbook")
            entries = [_entry(collection, settings, n) for n in range(400)]
            for entry in entries:
                logbook.add(entry)
            assert not logbook.flush(0.2)
        logbook.close()
        lost = metrics.registry.get_sample_value("ragworks_query_log_dropped_total")
        written = metrics.registry.get_sample_value("ragworks_query_log_written_total")
    assert lost
    assert written
    assert lost + written == 400
    assert query(own, "select count(*) from ragworks.query_log where query = '399'") == [(1,)]
    assert "entries are dropped" in caplog.text


def test_a_row_that_cannot_be_stored_takes_no_other_with_it(own: Settings) -> None:
    settings = load_collection(own, "handbook")
    with open_pool(own) as pool:
        logbook = Logbook(pool, Metrics())
        with pool.connection() as connection:
            collection = collections.collection_id(connection, "handbook")
        for number in (collection, 999_999, collection):
            logbook.add(_entry(number, settings, number))
        logbook.close()
    assert query(own, "select count(*) from ragworks.query_log") == [(2,)]


def _entry(collection: int, settings: Collection, number: int) -> Entry:
    return Entry(LoggedQuery(collection_id=collection, kind="search", query=str(number)), settings)


def test_keys_end_within_seconds(own: Settings) -> None:
    from include.store import api_keys

    def status(url: str, key: str) -> int:
        body = {"collection": "handbook", "query": "x"}
        return httpx.post(f"{url}/v1/search", json=body, headers={"Authorization": f"Bearer {key}"}).status_code

    user, slow = make_key(own, "user"), make_key(own, "slow", requests_per_minute=2)
    old = make_key(own, "old", expires_at=datetime.now(UTC) - timedelta(days=1))
    stored = query(own, "select key_hash::text, name from ragworks.api_key")
    assert user not in str(stored)
    with running(own) as (url, service):
        assert (status(url, user), status(url, old)) == (200, 401)
        assert [status(url, slow) for _ in range(3)] == [200, 200, 429]
        time.sleep(0.6)  # an unknown key asks the database again only after a moment
        assert status(url, make_key(own, "new")) == 200
        with service.pool.connection() as connection:
            api_keys.revoke_key(connection, "user")
        deadline = time.monotonic() + 5
        while status(url, user) != 401:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_defaults_of_a_logged_query_differ() -> None:
    one = LoggedQuery(collection_id=1, kind="search")
    assert one.id != LoggedQuery(collection_id=1, kind="search").id
    assert replace(one, status="empty").id == one.id

"""Search over HTTP: the contract, the rights, and a clear answer to everything that is wrong."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from include.serving.options import Options
from tests.serving.conftest import make_key, running

if TYPE_CHECKING:
    from include.config import Settings
    from tests.serving.conftest import Client


def test_search(client: Client) -> None:
    answer = client.search("which animal has a pouch", top_k=1, mode="lexical")
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {"id", "results", "passport", "seconds"}
    (hit,) = body["results"]
    assert (hit["document"], hit["text"], hit["start"]) == ("animals", "Kangaroos carry their young in a pouch.", 0)
    assert {"document", "ordinal", "start", "end", "text", "score", "metadata"} <= set(hit)
    assert body["passport"]["id"] == body["id"]
    assert (body["passport"]["collection"], body["passport"]["mode"]) == ("handbook", "lexical")
    assert body["seconds"]["total"] > 0
    assert answer.headers["x-request-id"]


def _documents(answer: httpx.Response) -> set[str]:
    assert answer.status_code == 200, answer.text
    return {hit["document"] for hit in answer.json()["results"]}


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_who_may_see_a_document(mode: str, client: Client) -> None:
    """The key decides; only one with act_as may ask for others."""
    assert "salaries" not in _documents(client.search("kangaroo budget", mode=mode))
    assert "salaries" in _documents(client.search("kangaroo budget", mode=mode, key="hr"))
    assert "salaries" not in _documents(client.search("kangaroo budget", mode=mode, key="agent"))
    assert "salaries" in _documents(client.search("kangaroo budget", mode=mode, key="agent", principals=["hr"]))
    refused = client.search("kangaroo budget", mode=mode, principals=["hr"])
    assert (refused.status_code, refused.json()["error"]["param"]) == (403, "principals")


INJECTIONS = ("'; drop table ragworks.query_log; --", '" or 1=1 --', "%(query)s", "{}", "\\")


@pytest.mark.parametrize("text", INJECTIONS)
def test_text_is_data(text: str, client: Client) -> None:
    assert client.search(text).status_code == 200
    assert _documents(client.search("pouch", filter={text: text})) == set()
    assert client.post("/v1/search", {"collection": text, "query": "x"}).status_code == 404


SEARCH = {"collection": "handbook", "query": "pouch"}


@pytest.mark.parametrize(
    ("key", "body", "status", "code", "param"),
    [
        ("", SEARCH, 401, "missing_api_key", None),
        ("rw_wrong", SEARCH, 401, "invalid_api_key", None),
        ("metrics", SEARCH, 403, "missing_scope", None),
        ("other", SEARCH, 403, "collection_not_allowed", "collection"),
        ("other", SEARCH | {"collection": "nowhere"}, 403, "collection_not_allowed", "collection"),
        ("user", SEARCH | {"collection": "nowhere"}, 404, "collection_not_found", "collection"),
        ("user", SEARCH | {"top_k": 0}, 400, "invalid_value", "top_k"),
        ("user", SEARCH | {"top_k": "3"}, 400, "invalid_value", "top_k"),
        ("user", SEARCH | {"topk": 3}, 400, "invalid_value", "topk"),
        ("user", SEARCH | {"mode": "magic"}, 400, "invalid_value", "mode"),
        ("user", SEARCH | {"query": "nul \x00"}, 400, "invalid_value", "query"),
        ("user", SEARCH | {"query": "x" * 5000}, 400, "invalid_value", "query"),
        ("user", SEARCH | {"filter": {"team": {"$gt": 1}}}, 400, "invalid_value", "filter"),
        ("user", SEARCH | {"rerank": True}, 400, "invalid_value", "rerank"),
        ("user", {"query": "x"}, 400, "invalid_value", "collection"),
        ("user", ["a list"], 400, "invalid_value", "body"),
    ],
)  # fmt: skip
def test_refusals(key: str, body: Any, status: int, code: str, param: str | None, client: Client) -> None:
    answer = client.post("/v1/search", body, key=key)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code), error
    assert set(error) == {"message", "type", "code", "param"}
    assert error["message"]
    assert (error["param"] or "").split(".")[0] == (param or "")


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b'{"query": NaN}', b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"])
def test_bodies_that_are_no_json(content: bytes, client: Client) -> None:
    answer = client.post("/v1/search", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_what_is_not_there(client: Client) -> None:
    assert client.get("/v1/nothing").json()["error"]["code"] == "unknown_path"
    assert client.get("/v1/search").json()["error"]["code"] == "method_not_allowed"


def test_large_bodies(client: Client) -> None:
    """Refused by what they declare, and while they arrive where they declare nothing."""
    sent = []

    def pieces() -> Any:
        for _ in range(200):
            sent.append(1)
            yield b"x" * 100_000

    for content in (b"x" * 3_000_000, pieces()):
        try:
            answer = client.post("/v1/search", content=content)
        except httpx.WriteError:  # the server hung up before all was sent
            continue
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert len(sent) <= 200
    wrong = client.post("/v1/search", content=b"x" * 3_000_000, key="rw_wrong")
    assert wrong.status_code == 401  # before a byte is read


def test_dead_database(served: Settings, database_url: str) -> None:
    """The requests fail with the true reason, the process lives and is not ready."""
    import psycopg

    settings = served.model_copy(update={"database_url": database_url})
    key = make_key(settings, "user")
    with running(settings, Options(port=0, timeout=20)) as (url, service):
        service.pool.timeout = 1.0
        with psycopg.connect(served.database_url or "", autocommit=True) as connection:
            name = database_url.rpartition("/")[2]
            connection.execute(f'alter database "{name}" allow_connections false')  # type: ignore[arg-type]
            for _ in range(5):  # a connection that was being made meanwhile still comes about
                connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (name,))
                time.sleep(0.1)
            answers = [
                httpx.post(f"{url}/v1/search", json=SEARCH, headers={"Authorization": f"Bearer {key}"}) for _ in range(3)
            ]
            assert {a.status_code for a in answers} == {503}
            assert answers[-1].json()["error"]["code"] == "database_unavailable"
            assert answers[-1].headers["retry-after"]
            assert httpx.get(f"{url}/healthz").status_code == 200
            assert httpx.get(f"{url}/readyz").status_code == 503
            connection.execute(f'alter database "{name}" allow_connections true')  # type: ignore[arg-type]


def test_health_and_metrics(client: Client, url: str) -> None:
    client.search("pouch")
    assert httpx.get(f"{url}/healthz").json() == {"status": "ok"}
    deadline = time.monotonic() + 20
    while httpx.get(f"{url}/readyz").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert httpx.get(f"{url}/metrics").status_code == 401
    assert client.get("/metrics").status_code == 403
    text = client.get("/metrics", key="metrics").text
    assert 'ragworks_requests_total{route="/v1/search",status="200"}' in text
    assert 'ragworks_questions_total{collection="handbook",kind="search",status="ok"}' in text


def test_models(client: Client) -> None:
    listed = client.get("/v1/models").json()
    assert [(m["id"], m["object"]) for m in listed["data"]] == [("handbook", "model"), ("other", "model")]
    assert [m["id"] for m in client.get("/v1/models", key="other").json()["data"]] == ["other"]

"""One real server for all tests here: uvicorn on loopback, a real database, an LLM that speaks OpenAI's protocol."""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import pytest
import yaml
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from include.config import Settings
from include.serving.app import create_app
from include.serving.options import Options
from include.serving.server import Server
from include.serving.service import Service, open_service
from include.store import api_keys
from include.store.pool import open_pool
from tests.support import HashEmbedder, index

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DOCUMENTS = [
    ("animals", "Kangaroos carry their young in a pouch.", None),
    ("physics", "Light travels at three hundred thousand kilometres a second.", None),
    ("salaries", "The secret kangaroo budget is ninety thousand.", '["hr"]'),
]
SAID = "Kangaroos carry their young in a pouch [1]."


class FakeLLM(BaseHTTPRequestHandler):
    """POST /v1/chat/completions, whole or streamed; keeps what it was asked."""

    asked: list[dict[str, Any]] = []  # noqa: RUF012

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body)
        head = {"id": "x", "created": 1, "model": body["model"]}
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream" if body.get("stream") else "application/json")
        self.end_headers()
        if body.get("stream"):
            for piece in SAID.split(" "):
                delta = {"index": 0, "delta": {"content": piece + " "}, "finish_reason": None}
                self._event({**head, "object": "chat.completion.chunk", "choices": [delta]})
            self.wfile.write(b"data: [DONE]\n\n")
        else:
            choice = {"index": 0, "message": {"role": "assistant", "content": SAID}, "finish_reason": "stop"}
            self.wfile.write(json.dumps({**head, "object": "chat.completion", "choices": [choice]}).encode())

    def _event(self, chunk: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="package")
def llm() -> Iterator[str]:
    """Base URL of the fake LLM."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeLLM)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="package")
def served(postgres: str, llm: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a database with two collections: handbook, of which one document is for hr alone, and other."""
    folder = tmp_path_factory.mktemp("serving")
    (folder / "collections").mkdir()
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database if exists serving with (force)"))
        connection.execute(sql.SQL("create database serving"))
    parts = conninfo_to_dict(postgres)
    url = f"postgresql://{parts['user']}:{parts['password']}@{parts['host']}:{parts['port']}/serving"
    settings = Settings(
        database_url=url, home=folder / "home", collections_dir=folder / "collections", llm_base_url=llm, llm_model="fake"
    )
    write_documents(folder / "documents.db", DOCUMENTS)
    for name in ("handbook", "other"):
        write_collection(settings, name, folder / "documents.db")
        index(settings, name, embedder=HashEmbedder())
    return settings


def write_documents(path: Path, rows: list[tuple[str, str, str | None]]) -> None:
    """A table of documents with access lists."""
    with sqlite3.connect(path) as database:
        database.execute("create table if not exists page (id text primary key, text text, acl text, updated_at text)")
        database.executemany("insert or replace into page values (?, ?, ?, '2026-01-01')", rows)


def write_collection(settings: Settings, name: str, database: Path, **sections: Any) -> None:
    """Its file; the table of :func:`write_documents` is its source."""
    source = {
        "type": "sql", "url": f"sqlite:///{database}", "query": "select * from page", "acl": "acl",
    }  # fmt: skip
    content = {"name": name, "source": source, "answers": {"abstain_below": 0.0}, **sections}
    (settings.collections_dir / f"{name}.yaml").write_text(yaml.safe_dump(content))


@contextmanager
def running(settings: Settings, options: Options | None = None) -> Iterator[tuple[str, Service]]:
    """A server in a thread: its URL and its state."""
    options = options or Options(port=0)
    with open_service(settings, options, embedder=HashEmbedder()) as service:
        listening = threading.Event()
        server = Server(create_app(service), options, lambda _: listening.set())
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        assert listening.wait(20)
        yield server.url, service
        server.should_exit = True
        thread.join(20)


def make_key(settings: Settings, name: str, *scopes: str, **rights: Any) -> str:
    """A key with these scopes; without any, the usual ones."""
    with open_pool(settings) as pool, pool.connection() as connection:
        return api_keys.create_key(connection, name, scopes=scopes or api_keys.DEFAULT_SCOPES, **rights)


@pytest.fixture(scope="package")
def keys(served: Settings) -> dict[str, str]:
    """Keys by what they may."""
    return {
        "user": make_key(served, "user"),
        "hr": make_key(served, "hr", principals=["hr"]),
        "agent": make_key(served, "agent", "search", "chat", "act_as"),
        "other": make_key(served, "other", collections=["other"]),
        "metrics": make_key(served, "metrics", "metrics"),
    }


@pytest.fixture(scope="package")
def server(served: Settings, keys: dict[str, str]) -> Iterator[tuple[str, Service]]:
    """The running server."""
    with running(served) as started:
        yield started


@pytest.fixture
def service(server: tuple[str, Service]) -> Service:
    return server[1]


@pytest.fixture
def url(server: tuple[str, Service]) -> str:
    return server[0]


class Client:
    """Calls the server as the holder of one of the keys."""

    def __init__(self, url: str, keys: dict[str, str]) -> None:
        self._http, self._keys = httpx.Client(base_url=url, timeout=30), keys

    def post(self, path: str, body: Any = None, *, key: str = "user", **options: Any) -> httpx.Response:
        if body is not None:
            options["json"] = body
        headers = self._login(key, options)
        return self._http.post(path, headers=headers, **options)

    def get(self, path: str, *, key: str = "user") -> httpx.Response:
        return self._http.get(path, headers=self._login(key, {}))

    def search(self, query: str, *, key: str = "user", **more: Any) -> httpx.Response:
        return self.post("/v1/search", {"collection": "handbook", "query": query, **more}, key=key)

    def chat(self, question: str, *, key: str = "user", **more: Any) -> httpx.Response:
        body = {"model": "handbook", "messages": [{"role": "user", "content": question}], **more}
        return self.post("/v1/chat/completions", body, key=key)

    def _login(self, key: str, options: dict[str, Any]) -> dict[str, str]:
        token = self._keys.get(key, key)
        return {**({"Authorization": f"Bearer {token}"} if token else {}), **options.pop("headers", {})}


@pytest.fixture
def client(url: str, keys: dict[str, str]) -> Client:
    return Client(url, keys)

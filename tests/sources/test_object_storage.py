"""S3 over real HTTP, from the listing to the index: moto's server on loopback, s3fs as in production."""

from __future__ import annotations

import json
import socket
import threading
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import requests
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from include.collection_file import Collection
from include.errors import BadConfiguration, ServiceUnavailable
from include.sources import open_source
from ragworks.hooks.ragworks import source_options
from tests.support import HashEmbedder, assert_same_index, export, index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from include.config import Settings
    from include.sources.source import Source

ODD = ["a b.md", "ünï çödé.md", "x#y.md", "50%25.md", "c+d.md", "q?.md", "d/[x].md", "d/star*.md", "d//double.md", "/first.md"]


class Wire:
    """Sees each request, and can cut the connection."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self.seen: list[tuple[str, str, str]] = []
        self.cut: Callable[[dict[str, Any]], bool] = lambda environ: False
        self.page = 1000

    def __call__(self, environ: dict[str, Any], respond: Any) -> Any:
        self.seen.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"]))
        if self.cut(environ):
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionAbortedError
        if self.page < 1000 and "list-type=2" in environ["QUERY_STRING"]:
            environ["QUERY_STRING"] += f"&max-keys={self.page}"
        return self._application(environ, respond)

    def reads(self) -> list[str]:
        """Names of the objects whose content was asked for since the last call."""
        seen, self.seen = self.seen, []
        return sorted({path.partition("/docs/")[2] for method, path, query in seen if method == "GET" and "/docs/" in path})


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *args: Any, **kwargs: Any) -> None:
        pass


class Bucket:
    """A bucket with documents below ``docs``, and what a client needs to know."""

    def __init__(self, url: str, wire: Wire) -> None:
        self.url, self.wire, self.name = url, wire, "lake"
        self.client = boto3.client(
            "s3", endpoint_url=url, aws_access_key_id="k", aws_secret_access_key="s", region_name="us-east-1"
        )
        self.client.create_bucket(Bucket=self.name)
        self.options = {
            "key": "k",
            "secret": "s",
            "endpoint_url": url,
            "client_kwargs": {"region_name": "us-east-1"},
            "config_kwargs": {"retries": {"max_attempts": 1}},
        }

    def put(self, key: str, body: str) -> None:
        self.client.put_object(Bucket=self.name, Key=f"docs/{key}", Body=body.encode())

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=f"docs/{key}")

    def source(self, path: str = "s3://lake/docs", kind: str = "files", options: Any = None, **more: Any) -> Source:
        settings = {"name": "a", "source": {"type": kind, "path": path, **more}}
        return open_source(Collection.model_validate(settings), storage_options=options or self.options)


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Wire]]:
    wire = Wire(DomainDispatcherApplication(create_backend_app))
    served = make_server("127.0.0.1", 0, wire, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{served.port}", wire
    served.shutdown()


@pytest.fixture
def bucket(server: tuple[str, Wire], monkeypatch: pytest.MonkeyPatch) -> Bucket:
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    url, wire = server
    wire.cut, wire.page = lambda environ: False, 1000
    requests.post(f"{url}/moto-api/reset", timeout=10).raise_for_status()
    made = Bucket(url, wire)
    wire.seen.clear()
    return made


@pytest.fixture
def connected(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """The bucket by an Airflow connection of the environment."""
    extra = {"endpoint_url": bucket.url, "region_name": "us-east-1", "config_kwargs": bucket.options["config_kwargs"]}
    value = {"conn_type": "aws", "login": "k", "password": "s", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", json.dumps(value))
    return bucket


def texts(source: Source) -> dict[str, str]:
    return {document.uri: document.text for _, found in source.read_many(list(source.listing())) for document in found}


def test_keys_of_every_kind_are_listed_and_read(bucket: Bucket) -> None:
    for key in ODD:
        bucket.put(key, f"# {key}")
    for key in (".hidden.md", "d/.hidden/a.md", "picture.png", "d/", "empty folder/", "folder.md/"):
        bucket.put(key, "")
    assert texts(bucket.source()) == {key: f"# {key}" for key in ODD}
    assert [obj.uri for obj in bucket.source().listing()] == sorted(ODD)


def test_more_keys_than_one_answer_holds(bucket: Bucket) -> None:
    for n in range(1050):  # straight into the server: a thousand requests take half a minute
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object(bucket.name, f"docs/{n % 7}/{n:05}.md", b"x")
    bucket.wire.seen.clear()
    assert len(list(bucket.source().listing())) == 1050
    pages = [query for method, _, query in bucket.wire.seen if method == "GET" and "list-type=2" in query]
    assert sum("continuation-token" in query for query in pages) == 1


def test_a_changed_object_alone_has_another_fingerprint(bucket: Bucket) -> None:
    for key in ("a.md", "b.md"):
        bucket.put(key, "same size 1")
    before = {obj.uri: obj.fingerprint for obj in bucket.source().listing()}
    assert {obj.uri: obj.fingerprint for obj in bucket.source().listing()} == before
    assert "ETag=" in before["a.md"]
    bucket.put("a.md", "same size 2")
    after = {obj.uri: obj.fingerprint for obj in bucket.source().listing()}
    assert {key for key in after if after[key] != before[key]} == {"a.md"}


def test_an_object_is_read_with_one_request(bucket: Bucket) -> None:
    bucket.put("a.md", "# A")
    source = bucket.source()
    objects = list(source.listing())
    bucket.wire.seen.clear()
    list(source.read(objects[0]))
    assert [(method, path) for method, path, _ in bucket.wire.seen] == [("GET", "/lake/docs/a.md")]


def test_objects_that_change_or_go_between_listing_and_reading(bucket: Bucket) -> None:
    for key in ("changed.md", "gone.md", "stays.md"):
        bucket.put(key, "short")
    source = bucket.source()
    objects = list(source.listing())
    bucket.put("changed.md", "much longer than it was when it was listed")
    bucket.delete("gone.md")
    changed, gone, stays = (next(found) for _, found in source.read_many(objects))
    assert changed.text == "much longer than it was when it was listed"
    assert gone.problem == "cannot read gone.md: it is gone since it was listed; run again"
    assert stays.text == "short"


def test_rows_of_a_large_object(bucket: Bucket) -> None:
    rows = [{"id": n, "text": f"{n} " * 200} for n in range(6000)]
    bucket.put("rows/a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    found = texts(bucket.source("s3://lake/docs/rows/a.jsonl", "jsonl"))
    assert found == {str(row["id"]): row["text"] for row in rows}


@pytest.mark.parametrize("path", ["s3://nobucket/docs", "s3://lake/nothing"])
def test_no_such_place(bucket: Bucket, path: str) -> None:
    with pytest.raises(BadConfiguration, match=rf"source\.path {path} does not exist"):
        bucket.source(path).listing()


def test_no_credentials(bucket: Bucket) -> None:
    bucket.put("a.md", "x")
    with pytest.raises(BadConfiguration, match=r"no credentials: NoCredentialsError.*source\.conn_id"):
        bucket.source(options={"endpoint_url": bucket.url}).listing()


def test_wrong_credentials(bucket: Bucket) -> None:
    bucket.put("a.md", "x")
    source = bucket.source(options=bucket.options | {"key": "someone", "secret": "not-the-secret"})
    requests.post(f"{bucket.url}/moto-api/reset-auth", data="0", timeout=10).raise_for_status()
    try:
        with pytest.raises(BadConfiguration, match=r"source\.path s3://lake/docs: no permission.*[Cc]redentials") as caught:
            source.listing()
    finally:
        requests.post(f"{bucket.url}/moto-api/reset-auth", data="Infinity", timeout=10).raise_for_status()
    assert "not-the-secret" not in str(caught.value)


def test_a_server_that_goes_in_the_middle_of_a_listing(connected: Bucket, settings: Settings, collection: Any) -> None:
    connected.wire.page = 10
    for n in range(25):
        connected.put(f"{n:05}.md", f"text {n}")
    collection("lake", source={"type": "files", "path": "s3://lake/docs", "conn_id": "lake"})
    embedder = HashEmbedder()
    index(settings, "lake", embedder=embedder)
    before = export(settings, "lake")
    assert len(before) == 25
    connected.wire.cut = lambda environ: "continuation-token" in environ["QUERY_STRING"]
    with pytest.raises(ServiceUnavailable, match=r"cannot read source\.path s3://lake/docs.*try again"):
        index(settings, "lake", embedder=embedder)
    assert export(settings, "lake") == before
    connected.wire.cut = lambda environ: False
    again = index(settings, "lake", embedder=embedder)
    assert (again["plan"]["deleted"], again["plan"]["unchanged"]) == (0, 25)


def test_a_bucket_through_the_whole_pipeline(connected: Bucket, settings: Settings, collection: Any) -> None:
    for n in range(20):
        connected.put(f"{n:02}.md", f"# Page {n}\n\nIts text.")
    collection("lake", source={"type": "files", "path": "s3://lake/docs", "conn_id": "lake"})
    embedder = HashEmbedder()
    first = index(settings, "lake", embedder=embedder)
    assert (first["plan"]["added"], len(connected.wire.reads())) == (20, 20)

    embedder.texts.clear()
    unchanged = index(settings, "lake", embedder=embedder)
    assert (unchanged["plan"]["unchanged"], embedder.texts, connected.wire.reads()) == (20, [], [])

    connected.put("03.md", "# Page 3\n\nAnother text.")
    connected.delete("04.md")
    connected.put("new.md", "# New")
    changed = index(settings, "lake", embedder=embedder)
    assert [changed["plan"][action] for action in ("added", "changed", "deleted", "unchanged")] == [1, 1, 1, 18]
    assert connected.wire.reads() == ["03.md", "new.md"]

    collection("again", source={"type": "files", "path": "s3://lake/docs", "conn_id": "lake"})
    index(settings, "again", embedder=embedder)
    assert_same_index(export(settings, "lake"), export(settings, "again"))


def test_airflows_connection_opens_the_bucket(connected: Bucket) -> None:
    connected.put("a.md", "# A")
    wanted = Collection.model_validate({"name": "a", "source": {"type": "files", "path": "s3://lake/docs", "conn_id": "lake"}})
    options = source_options(wanted.source)
    assert options == connected.options
    assert texts(open_source(wanted, storage_options=options)) == {"a.md": "# A"}
    assert texts(open_source(wanted)) == {"a.md": "# A"}

"""Stores behind fsspec: the same promises as local files."""

from __future__ import annotations

import functools
import http.server
import json
import threading
import uuid
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from include.errors import BadConfiguration, ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.sources.conftest import Opener, Reader


class Shaky(LocalFileSystem):  # type: ignore[misc, unused-ignore]
    """A store that lists folder by folder over a network, so it may fail in the middle of a listing."""

    protocol = "shaky"
    broken = ""
    error: type[Exception] = OSError

    def ls(self, path: str, detail: bool = False, **kwargs: Any) -> Any:
        if self.broken and path.endswith(self.broken):
            raise self.error("connection reset")
        if path not in self.dircache:  # as object stores do
            self.dircache[path] = super().ls(path, detail=True, **kwargs)
        return self.dircache[path] if detail else [info["name"] for info in self.dircache[path]]

    def invalidate_cache(self, path: str | None = None) -> None:
        self.dircache.clear()

    def open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        if self.broken and path.endswith(self.broken):
            raise self.error("connection reset")
        return super().open(path, mode, **kwargs)


fsspec.register_implementation("shaky", Shaky, clobber=True)


@pytest.fixture
def shaky(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    for name in ("a.md", "d/b.md", "d/e/c.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(Shaky, "broken", "")
    return f"shaky://{tmp_path}"


@pytest.fixture
def memory() -> Iterator[str]:
    fs, root = fsspec.filesystem("memory"), f"/{uuid.uuid4().hex}"
    fs.pipe({f"{root}/docs/a.md": b"# A", f"{root}/docs/d/b.txt": b"b", f"{root}/docs/.x/c.md": b"c"})
    fs.pipe(f"{root}/docs/i.png", b"i")
    yield f"memory:/{root}"
    fs.rm(root, recursive=True)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, http.server.ThreadingHTTPServer]]:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", server
        server.shutdown()


def test_memory(memory: str, opened: Opener, documents: Reader) -> None:
    found = documents(f"{memory}/docs")
    assert [(d.uri, d.text, d.problem) for d in found] == [("a.md", "# A", ""), ("d/b.txt", "b", "")]
    assert found[0].metadata == {"path": "a.md", "type": "markdown", "title": "A"}
    (only,) = opened(f"{memory}/docs", glob="*.md").listing()
    assert (only.uri, only.size) == ("a.md", 3)


def test_a_changed_object_has_another_fingerprint(memory: str, opened: Opener) -> None:
    source = opened(f"{memory}/docs")
    first, second = list(source.listing()), list(source.listing())
    assert first == second
    fsspec.filesystem("memory").pipe(memory.removeprefix("memory:/") + "/docs/a.md", b"# B")
    a, b = source.listing()
    assert a.fingerprint != first[0].fingerprint
    assert b == first[1]


def test_the_size_limit(memory: str, documents: Reader) -> None:
    big, small = documents(f"{memory}/docs", max_bytes=2)
    assert big.problem.startswith("a.md is 3 bytes, the limit validation.max_bytes is 2")
    assert small.problem == ""


def test_a_jsonl_object(memory: str, documents: Reader) -> None:
    path = memory.removeprefix("memory:/") + "/rows/c.jsonl"
    fsspec.filesystem("memory").pipe(path, b'{"id": 1, "text": "x"}\n')
    for url in (f"{memory}/rows/c.jsonl", f"{memory}/rows"):
        assert [(d.uri, d.object_uri, d.text) for d in documents(url, "jsonl")] == [("1", "c.jsonl", "x")]


def test_an_absent_path(memory: str, opened: Opener) -> None:
    with pytest.raises(BadConfiguration, match=r"source\.path memory://.*/absent does not exist"):
        opened(f"{memory}/absent").listing()


def test_a_file_is_not_a_folder(memory: str, opened: Opener) -> None:
    with pytest.raises(BadConfiguration, match="not a folder"):
        opened(f"{memory}/docs/a.md").listing()


def test_an_object_gone_since_it_was_listed(memory: str, opened: Opener) -> None:
    source = opened(f"{memory}/docs")
    first, second = source.listing()
    fsspec.filesystem("memory").rm(memory.removeprefix("memory:/") + "/docs/a.md")
    assert "gone since it was listed" in next(source.read(first)).problem
    assert next(source.read(second)).problem == ""


@pytest.mark.parametrize("url", ["nosuch://bucket/docs", "dropbox://docs"])
def test_unknown_stores(url: str, opened: Opener) -> None:
    with pytest.raises(BadConfiguration, match="Correct it, or install that package"):
        opened(url)


def test_a_store_that_lists_folder_by_folder(shaky: str, documents: Reader) -> None:
    assert [(d.uri, d.text) for d in documents(shaky)] == [(n, n) for n in ("a.md", "d/b.md", "d/e/c.md")]


def test_a_listing_is_of_now_not_of_the_file_systems_cache(shaky: str, tmp_path: Path, opened: Opener) -> None:
    before = [obj.uri for obj in opened(shaky).listing()]
    (tmp_path / "d" / "new.md").write_text("new")
    assert [obj.uri for obj in opened(shaky).listing()] == sorted([*before, "d/new.md"])


@pytest.mark.parametrize("folder", ["/d", "/d/e"])
@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError, ServiceUnavailable),
        (RuntimeError, ServiceUnavailable),
        (FileNotFoundError, ServiceUnavailable),
        (PermissionError, BadConfiguration),
    ],
)
def test_a_listing_is_never_partial(
    shaky: str, opened: Opener, monkeypatch: pytest.MonkeyPatch, folder: str, error: type[Exception], raised: type
) -> None:
    monkeypatch.setattr(Shaky, "broken", folder)
    monkeypatch.setattr(Shaky, "error", error)
    with pytest.raises(raised, match="connection reset"):
        opened(shaky).listing()


def test_a_lost_connection_is_an_outage_a_refusal_is_a_problem(
    shaky: str, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = opened(shaky)
    first, second, _ = source.listing()
    monkeypatch.setattr(Shaky, "broken", "/a.md")
    with pytest.raises(ServiceUnavailable, match=r"cannot read source\.path shaky://.*connection reset"):
        next(source.read(first))
    monkeypatch.setattr(Shaky, "error", PermissionError)
    assert "connection reset" in next(source.read(first)).problem
    assert next(source.read(second)).text == "d/b.md"


def test_http_and_its_outage(
    web: tuple[str, http.server.ThreadingHTTPServer], tmp_path: Path, opened: Opener, documents: Reader
) -> None:
    pytest.importorskip("aiohttp")
    url, server = web
    (tmp_path / "c.jsonl").write_text(json.dumps({"id": "a", "text": "over HTTP"}))
    (document,) = documents(f"{url}/c.jsonl", "jsonl")
    assert (document.uri, document.object_uri, document.text) == ("a", "c.jsonl", "over HTTP")
    source = opened(f"{url}/c.jsonl", "jsonl")
    first, second = list(source.listing()), list(source.listing())
    assert first == second
    with pytest.raises(BadConfiguration, match="does not exist"):
        opened(f"{url}/absent.jsonl", "jsonl").listing()
    server.shutdown()
    server.server_close()
    with pytest.raises(ServiceUnavailable, match="Check the network and try again"):
        source.listing()
    with pytest.raises(ServiceUnavailable):
        list(source.read(first[0]))


def test_messages_do_not_show_the_password_of_a_url(opened: Opener) -> None:
    with pytest.raises(BadConfiguration) as caught:
        opened("nosuch://user:secret@host/docs")
    assert "secret" not in str(caught.value)
    assert "nosuch://host/docs" in str(caught.value)


def test_a_store_without_versions_is_read_in_every_run(
    memory: str, opened: Opener, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("include.sources.remote._VERSIONS", ("ETag",))
    source = opened(f"{memory}/docs")
    first, second = list(source.listing()), list(source.listing())
    assert not {obj.fingerprint for obj in first} & {obj.fingerprint for obj in second}
    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == [
        f"{memory}/docs tells no etag or time of 2 files: they are read in every run"
    ] * 2

"""Every mistake a user can make ends in one clear line and the right exit code, never in a traceback; nothing is lost."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import yaml

from include.cli.main import main
from include.store import embedded
from tests.conftest import write_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from include.config import Settings


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.out))


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """The command line, in this process, on the test's database."""
    monkeypatch.setenv("RAGWORKS_DATABASE_URL", settings.database_url or "")
    monkeypatch.setenv("RAGWORKS_HOME", str(settings.home))
    monkeypatch.setenv("RAGWORKS_COLLECTIONS_DIR", str(settings.collections_dir))

    def call(*arguments: str) -> Result:
        capsys.readouterr()
        code = main(arguments)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Result(code, captured.out, captured.err)

    return call


def _one_line(result: Result, code: int, *parts: str) -> None:
    """One line on stderr: what, why, what to do."""
    assert result.code == code, result.err
    lines = [line for line in result.err.splitlines() if line.startswith("ragworks: ")]
    assert len(lines) == 1
    for part in parts:
        assert part in lines[0]


def test_unknown_collection(run: Callable[..., Result], collection: Callable[..., str]) -> None:
    collection("handbook")
    _one_line(run("index", "handbok"), 65, "unknown collection 'handbok'", "Did you mean handbook?")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ({"chunkng": {"max_tokens": 100}}, ["chunkng", "perhaps chunking is meant"]),
        ({"chunking": {"max_token": 100}}, ["chunking.max_token", "perhaps max_tokens is meant"]),
        ({"chunking": {"max_tokens": "many"}}, ["chunking.max_tokens", "valid integer", "'many'"]),
        ({"chunking": {"max_tokens": "100"}}, ["chunking.max_tokens", "valid integer"]),
        ({"chunking": {"max_tokens": 0}}, ["chunking.max_tokens", "greater than or equal to 8"]),
        ({"chunking": {"overlap": 150}}, ["chunking.overlap", "at most half of max_tokens"]),
        ({"index": {"m": 100}}, ["index", "ef_construction must be at least twice m, that is 200"]),
        ({"embedding": {"storage": "float8"}}, ["embedding.storage", "'halfvec' or 'vector'"]),
        ({"validation": {"max_rejected": 5}}, ["validation.max_rejected", "less than or equal to 1"]),
        ({"schedule": "every day"}, ["schedule", "not a cron expression", "*/15 * * * *"]),
        ({"source": {"type": "ftp", "path": "x"}}, ["source", "'ftp'", "'files', 'jsonl'"]),
        ({"source": {"type": "files"}}, ["source.path", "required"]),
        ({"source": {"type": "files", "path": "x", "globb": "*"}}, ["source.globb", "perhaps glob is meant"]),
        ({"name": "Not A Name"}, ["name", "pattern"]),
        ({"training": {"arguments": {"embedder": {"epoch": 2}}}}, ["training.arguments", "perhaps epochs is meant"]),
    ],
)
def test_wrong_collection_file(
    content: dict[str, Any], parts: list[str], run: Callable[..., Result], settings: Settings, documents: Path
) -> None:
    base = {"name": "handbook", "source": {"type": "files", "path": str(documents)}}
    (settings.collections_dir / "handbook.yaml").write_text(yaml.safe_dump(base | content))
    _one_line(run("index", "handbook"), 65, "handbook.yaml", *parts)


@pytest.mark.parametrize("content", ["name: [", "- a list", "", "\x00\x01"])
def test_collection_file_that_is_no_mapping(content: str, run: Callable[..., Result], settings: Settings) -> None:
    (settings.collections_dir / "handbook.yaml").write_text(content)
    _one_line(run("index", "handbook"), 65, "handbook.yaml")


def test_chunks_larger_than_the_model(run: Callable[..., Result], collection: Callable[..., str]) -> None:
    collection(chunking={"max_tokens": 400})
    _one_line(run("index", "handbook"), 65, "chunking.max_tokens is 400", "at most 254 tokens")


def test_unknown_model(run: Callable[..., Result], collection: Callable[..., str], tmp_path: Path) -> None:
    collection(embedding={"model": str(tmp_path / "nowhere")})
    _one_line(run("index", "handbook"), 65, "embedding.model", "does not exist")
    collection(embedding={"model": "nobody/no-such-model"})
    _one_line(run("index", "handbook"), 69, "embedding.model", "hub cannot be reached")


def test_source_path_that_does_not_exist(run: Callable[..., Result], collection: Callable[..., str], tmp_path: Path) -> None:
    collection(source={"type": "files", "path": str(tmp_path / "nowhere")})
    _one_line(run("index", "handbook"), 65, "nowhere", "does not exist")


def test_empty_folder(run: Callable[..., Result], collection: Callable[..., str]) -> None:
    collection()
    _one_line(run("index", "handbook"), 65, "holds no documents", "source.glob")


def test_odd_files(run: Callable[..., Result], collection: Callable[..., str], documents: Path) -> None:
    """Each bad file is quarantined with its reason; each good one, in whatever encoding, is found."""
    collection()
    for number in range(60):
        (documents / f"good-{number}.md").write_text(f"# Good page {number}\n\nIt is about subject {number}.")
    (documents / "empty.md").write_bytes(b"")
    (documents / "binary.md").write_bytes(b"\x7fELF" + bytes(range(256)) * 50)
    (documents / "broken.pdf").write_bytes(b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog")
    (documents / "latin.txt").write_bytes("Das Café in Zürich öffnet um acht Uhr früh.".encode("latin-1"))
    (documents / "wide.txt").write_bytes("Der Zug fährt um neun Uhr nach Genf.".encode("utf-16"))
    with (documents / "huge.md").open("wb") as file:
        file.truncate(50_000_000)
    result = run("index", "handbook", "--json")
    assert result.code == 65  # 4 of 66: more than 5 %
    assert "4 of 66 new or changed documents were rejected" in result.json["error"]
    (documents / "huge.md").unlink()
    assert run("index", "handbook").code == 0
    rows = {r["uri"]: r["expectation"] for r in run("quarantine", "handbook", "--json").json["quarantined"]}
    assert rows == {"empty.md": "text_not_empty", "binary.md": "readable", "broken.pdf": "readable"}
    exported = [json.loads(line) for line in run("export", "handbook").out.splitlines()]
    texts = {row["document"]: row["text"] for row in exported}
    assert texts["latin.txt"] == "Das Café in Zürich öffnet um acht Uhr früh."
    assert texts["wide.txt"] == "Der Zug fährt um neun Uhr nach Genf."
    assert len(exported) == 62


def test_huge_file_is_named_with_the_limit(run: Callable[..., Result], collection: Callable[..., str], documents: Path) -> None:
    collection()
    (documents / "good.md").write_text("Good.")
    with (documents / "huge.md").open("wb") as file:
        file.truncate(50_000_000)
    assert run("index", "handbook").code == 0
    (row,) = run("quarantine", "handbook", "--json").json["quarantined"]
    assert (row["uri"], row["expectation"]) == ("huge.md", "size_within_limit")
    assert "20,000,000" in row["detail"]


def test_odd_rows(run: Callable[..., Result], collection: Callable[..., str], documents: Path) -> None:
    path = documents / "rows.jsonl"
    write_rows(path, [{"id": i, "text": f"Row {i}."} for i in range(60)])
    with path.open("a") as file:
        file.write('{"id": 7, "text": "again"}\n{"id": "x", "text": \nnot json\n')
    collection(source={"type": "jsonl", "path": str(path)})
    assert run("index", "handbook").code == 0
    rows = run("quarantine", "handbook", "--json").json["quarantined"]
    assert [(r["uri"], r["locator"], r["expectation"]) for r in rows] == [
        ("7", "line 61", "uri_unique"),
        ("rows.jsonl#L62", "line 62", "readable"),
        ("rows.jsonl#L63", "line 63", "readable"),
    ]
    assert len(run("export", "handbook").out.splitlines()) == 60


def test_retry_reads_quarantined_files_again(
    run: Callable[..., Result], collection: Callable[..., str], documents: Path
) -> None:
    (documents / "good.md").write_text("Good.")
    (documents / "empty.md").write_text("")
    collection()
    run("index", "handbook")
    assert run("quarantine", "handbook", "--retry", "--json").json["retried"] == 1
    run("index", "handbook")
    (row,) = run("quarantine", "handbook", "--json").json["quarantined"]
    assert row["attempts"] == 2


def test_postgres_down(run: Callable[..., Result], collection: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    collection()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("RAGWORKS_DATABASE_URL", f"postgresql://someone:hunter2@127.0.0.1:{port}/nothing")
    result = run("index", "handbook", "--json")
    _one_line(result, 69, f"127.0.0.1:{port}/nothing", "RAGWORKS_DATABASE_URL")
    assert "hunter2" not in result.err + result.out
    assert result.json["exit_code"] == 69


def test_wrong_password(
    run: Callable[..., Result], collection: Callable[..., str], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection()
    before, _, address = (settings.database_url or "").rpartition("@")
    monkeypatch.setenv("RAGWORKS_DATABASE_URL", before.rsplit(":", 1)[0] + ":wrong@" + address)
    _one_line(run("index", "handbook"), 69, "password authentication failed")


@pytest.mark.parametrize("url", ["not a url", "postgresql://[::1/x"])
def test_malformed_database_url(
    url: str, run: Callable[..., Result], collection: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    collection()
    monkeypatch.setenv("RAGWORKS_DATABASE_URL", url)
    _one_line(run("index", "handbook"), 65, "database URL is not usable")


def test_postgres_without_pgvector(
    run: Callable[..., Result],
    collection: Callable[..., str],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The server looks for extensions in an empty folder, as one without the package does."""
    collection()
    with psycopg.connect(settings.database_url or "", autocommit=True) as connection:
        connection.execute("drop schema ragworks cascade")
        connection.execute("drop extension vector")
    monkeypatch.setenv("RAGWORKS_DATABASE_URL", f"{settings.database_url}?options=-c%20extension_control_path%3D{tmp_path}")
    _one_line(run("index", "handbook"), 65, "this Postgres has no pgvector", "Install pgvector 0.8")


def test_role_that_may_not_enable_pgvector(
    run: Callable[..., Result], collection: Callable[..., str], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A role that may not create extensions, in a database that has none."""
    collection()
    with psycopg.connect(settings.database_url or "", autocommit=True) as connection:
        connection.execute("drop role if exists guest")
        connection.execute("create role guest login password 'guest'")
        connection.execute("drop schema ragworks cascade")
        connection.execute("drop extension vector")
        name = connection.info.dbname
        connection.execute(f"grant all on database {name} to guest")  # type: ignore[arg-type]
        address = f"127.0.0.1:{connection.info.port}"
    monkeypatch.setenv("RAGWORKS_DATABASE_URL", f"postgresql://guest:guest@{address}/{name}")
    _one_line(run("index", "handbook"), 65, "pgvector", "create extension vector")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["search", "handbook", "x"], 65),
        (["search", "handbook", "x", "--filter", "{"], 65),
        (["search", "handbook", "x", "--filter", "[1]"], 65),
        (["status", "nobody"], 65),
        (["runs", "nobody"], 65),
        (["export", "nobody"], 65),
        (["quarantine", "nobody"], 65),
        (["evaluate", "handbook", "--queries", "/nowhere", "--qrels", "/nowhere"], 65),
    ],
)
def test_asking_for_what_is_not_there(
    arguments: list[str], code: int, run: Callable[..., Result], collection: Callable[..., str]
) -> None:
    collection()
    _one_line(run(*arguments), code)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["index"],
        ["index", "x", "--no-such-option"],
        ["search", "x", "y", "--top-k", "0"],
        ["up", "--port", "0"],
        ["runs", "x", "--limit", "-1"],
    ],
)
def test_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2


@pytest.mark.parametrize("content", [b"no gzip", b"\x1f\x8b\x08\x00broken"])
def test_evaluate_with_broken_files(
    content: bytes, run: Callable[..., Result], collection: Callable[..., str], tmp_path: Path
) -> None:
    collection()
    (tmp_path / "q.jsonl.gz").write_bytes(content)
    (tmp_path / "latin.tsv").write_bytes("q\td\té".encode("latin-1"))
    (tmp_path / "q.jsonl").write_text('{"id": "q", "text": "x"}')
    queries = str(tmp_path / "q.jsonl.gz")
    _one_line(run("evaluate", "handbook", "--queries", queries, "--qrels", queries), 65, "q.jsonl.gz")
    qrels = str(tmp_path / "latin.tsv")
    _one_line(run("evaluate", "handbook", "--queries", str(tmp_path / "q.jsonl"), "--qrels", qrels), 65, "latin.tsv")


def test_connection_dropped_in_the_middle(
    run: Callable[..., Result],
    collection: Callable[..., str],
    documents: Path,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server cuts every connection while chunks are written: exit 69, and the next run completes."""
    from include.store import chunks

    (documents / "a.md").write_text("Text.")
    collection()
    original = chunks.write_documents

    def cut(*args: Any, **kwargs: Any) -> None:
        with psycopg.connect(settings.database_url or "", autocommit=True) as connection:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )
        original(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(chunks, "write_documents", cut)
        _one_line(run("index", "handbook"), 69, "went away", "Run the command again")
    assert run("index", "handbook", "--json").json["chunks"]["total"] == 1


def test_embedded_server_is_named_when_it_cannot_start(
    run: Callable[..., Result], collection: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    collection()
    (tmp_path / "file").write_text("")
    monkeypatch.delenv("RAGWORKS_DATABASE_URL")
    monkeypatch.setenv("RAGWORKS_HOME", str(tmp_path / "file" / "home"))
    assert run("index", "handbook").code in (65, 69)
    assert not embedded.running(tmp_path / "file" / "home")

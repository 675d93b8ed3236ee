"""A listing is complete, sorted, cheap and honest about what may still change."""

from __future__ import annotations

import builtins
import io
import logging
import os
import shutil
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import include.config
from include.errors import BadConfiguration, ServiceUnavailable
from include.sources import local
from include.sources.location import compile_glob

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sources.conftest import Opener, Reader

OLD = 1_700_000_000


def write(path: Path, content: str = "text", *, age: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    if age:
        os.utime(path, (OLD, OLD))
    return path


def uris(opened: Opener, path: Path, **options: object) -> list[str]:
    return [obj.uri for obj in opened(path, **options).listing()]


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder that anyone reaches, and a process that is not root."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    was_root = os.geteuid() == 0
    yield folder
    if was_root:
        os.seteuid(0)
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)


def drop_root() -> None:
    if os.geteuid() == 0:
        os.seteuid(65534)


def test_uris_are_sorted_by_code_point(tmp_path: Path, opened: Opener) -> None:
    for name in ("b.md", "a/z.md", "a.md", "B.md", "é.md", "a-b.md"):
        write(tmp_path / name)
    assert uris(opened, tmp_path) == ["B.md", "a-b.md", "a.md", "a/z.md", "b.md", "é.md"]


@pytest.mark.parametrize(
    ("glob", "matching"),
    [
        ("**/*", {"a.md", "d/b.md", "d/e/c.md", "d/b.txt"}),
        ("**/*.md", {"a.md", "d/b.md", "d/e/c.md"}),
        ("*.md", {"a.md"}),
        ("d/**", {"d/b.md", "d/e/c.md", "d/b.txt"}),
        ("d/**/*.md", {"d/b.md", "d/e/c.md"}),
        ("d/*/c.md", {"d/e/c.md"}),
        ("**/[bc].?d", {"d/b.md", "d/e/c.md"}),
        ("**/[!b].md", {"a.md", "d/e/c.md"}),
    ],
)
def test_glob(glob: str, matching: set[str]) -> None:
    matches = compile_glob(glob)
    assert {uri for uri in ("a.md", "d/b.md", "d/e/c.md", "d/b.txt") if matches(uri)} == matching


def test_a_glob_that_cannot_work_is_refused(tmp_path: Path, opened: Opener) -> None:
    with pytest.raises(BadConfiguration, match=r"source\.glob 'a\*\*\.md'"):
        opened(tmp_path, glob="a**.md")


def test_only_known_types_and_one_log_line_for_the_rest(
    tmp_path: Path, opened: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    known = [
        "L.MD",
        "a.md",
        "b.markdown",
        "c.mdx",
        "d.txt",
        "e.text",
        "f.rst",
        "g.html",
        "h.htm",
        "i.xhtml",
        "j.pdf",
        "k.docx",
    ]
    for name in [*known, "x.png", "y.PNG", "deep/z.png", "q.csv", "Makefile"]:
        write(tmp_path / name)
    with caplog.at_level(logging.INFO, "include.sources"):
        assert uris(opened, tmp_path) == sorted(known)
    assert [r.getMessage() for r in caplog.records] == ["ignored 5 files of types (none) (1), .csv (1), .png (3)"]


def test_hidden_files_and_folders_are_not_listed(tmp_path: Path, opened: Opener) -> None:
    for name in (".a.md", ".git/b.md", "c/.d/e.md", "c/f.md"):
        write(tmp_path / name)
    assert uris(opened, tmp_path) == ["c/f.md"]


def test_a_hidden_root_is_the_persons_choice(tmp_path: Path, opened: Opener) -> None:
    write(tmp_path / ".docs" / "a.md")
    assert uris(opened, tmp_path / ".docs") == ["a.md"]


def test_links_to_files_are_followed_and_loops_end(tmp_path: Path, opened: Opener, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "root"
    target = write(tmp_path / "elsewhere.md", "# Elsewhere")
    write(root / "a.md")
    (root / "link.md").symlink_to(target)
    (root / "loop").symlink_to(root)
    source = opened(root)
    listed = {obj.uri: obj for obj in source.listing()}
    assert list(listed) == ["a.md", "link.md"]
    assert next(source.read(listed["link.md"])).text == "# Elsewhere"
    assert "skipped 1 links to folders" in caplog.text
    before = listed["link.md"].fingerprint
    write(target, "# Elsewhere, changed")
    assert {obj.uri: obj.fingerprint for obj in source.listing()}["link.md"] != before


@pytest.mark.parametrize("target", ["absent.md", "dangling.md"])
def test_a_link_to_nothing_is_a_problem_not_a_deletion(tmp_path: Path, documents: Reader, target: str) -> None:
    (tmp_path / "dangling.md").symlink_to(tmp_path / target)
    (document,) = documents(tmp_path)
    assert (document.uri, document.text) == ("dangling.md", "")
    assert document.problem.startswith("cannot read dangling.md: ")


def test_a_named_pipe_does_not_hang(tmp_path: Path, opened: Opener) -> None:
    os.mkfifo(tmp_path / "pipe.md")
    write(tmp_path / "a.md")
    source = opened(tmp_path)
    (obj,) = source.listing()
    (tmp_path / "a.md").unlink()
    os.mkfifo(tmp_path / "a.md")
    (document,) = source.read(obj)
    assert "not a regular file" in document.problem


def test_relative_paths_start_at_the_project(tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "docs" / "a.md")
    monkeypatch.setattr(include.config, "PROJECT_ROOT", tmp_path)
    assert [obj.uri for obj in opened("docs").listing()] == ["a.md"]


def test_a_file_url_is_a_local_folder(tmp_path: Path, opened: Opener) -> None:
    write(tmp_path / "a b" / "a.md")
    assert [obj.uri for obj in opened((tmp_path / "a b").as_uri()).listing()] == ["a.md"]


def test_an_empty_folder_is_an_empty_listing(tmp_path: Path, opened: Opener) -> None:
    assert list(opened(tmp_path).listing()) == []


def test_an_absent_path_says_so_and_what_to_do(tmp_path: Path, opened: Opener) -> None:
    with pytest.raises(BadConfiguration, match=r"source\.path .*absent does not exist.*Create it or correct"):
        opened(tmp_path / "absent").listing()


def test_a_file_is_not_a_folder_of_files(tmp_path: Path, opened: Opener) -> None:
    with pytest.raises(BadConfiguration, match="not a folder"):
        opened(write(tmp_path / "a.md")).listing()


def test_a_folder_without_permission_fails_the_whole_listing(unprivileged: Path, opened: Opener) -> None:
    write(unprivileged / "a.md")
    write(unprivileged / "closed" / "b.md")
    (unprivileged / "closed").chmod(0)
    drop_root()
    with pytest.raises(BadConfiguration, match=r"no permission to read .*closed"):
        opened(unprivileged).listing()


def test_a_file_that_may_not_be_read_is_one_problem(unprivileged: Path, documents: Reader) -> None:
    write(unprivileged / "a.md")
    write(unprivileged / "b.md").chmod(0)
    drop_root()
    good, bad = documents(unprivileged)
    assert (good.text, good.problem) == ("text", "")
    assert "Permission denied" in bad.problem


def test_a_store_error_is_an_outage(tmp_path: Path, opened: Opener) -> None:
    """Too many open files: the simplest real OSError that is nobody's document."""
    import resource

    write(tmp_path / "a.md")
    source = opened(tmp_path)
    (obj,) = source.listing()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(ServiceUnavailable, match="Too many open files"):
            next(source.read(obj))
        with pytest.raises(ServiceUnavailable, match="Too many open files"):
            source.listing()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_listing_is_not_held(tmp_path: Path, opened: Opener) -> None:
    for number in range(5000):
        (tmp_path / f"page-{number % 7}-{number:05}.md").touch()
    (tmp_path / "rows.jsonl").touch()
    for kind, glob, count in (("files", "**/*", 5000), ("jsonl", "**/*.md", 5000)):
        source = opened(tmp_path, kind, glob=glob)
        list(source.listing())  # what is imported and kept by the first
        tracemalloc.start()
        listing = source.listing()
        first = next(listing)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 5000 * 40, "as one list they take over 400 bytes a file"
        uris = [first.uri, *(obj.uri for obj in listing)]
        assert (len(uris), uris) == (count, sorted(uris))


def test_fingerprint_is_stable_until_the_file_changes(tmp_path: Path, opened: Opener) -> None:
    path = write(tmp_path / "a.md")
    source = opened(tmp_path)
    (first,), (second,) = source.listing(), source.listing()
    assert first == second
    assert first.size == 4
    status = path.stat()
    assert first.fingerprint == f"4-{status.st_mtime_ns}-{status.st_ctime_ns}-{status.st_ino}|markdown:1"
    time.sleep(0.02)  # past a tick of the file system's clock
    write(path, "TEXT")  # same size, same mtime: ctime tells
    (third,) = source.listing()
    assert third.fingerprint != first.fingerprint


def test_a_file_written_just_now_is_read_again(tmp_path: Path, opened: Opener) -> None:
    write(tmp_path / "a.md", age=False)
    source = opened(tmp_path)
    (first,), (second,) = source.listing(), source.listing()
    assert ":racy-" in first.fingerprint
    assert first.fingerprint != second.fingerprint
    time.sleep(0.06)
    (third,), (fourth,) = source.listing(), source.listing()
    assert third == fourth
    assert ":racy-" not in third.fingerprint


@pytest.mark.parametrize(
    ("mtime_ns", "age_ns", "racy"),
    [
        (OLD * 10**9 + 1, 49_000_000, True),
        (OLD * 10**9 + 1, 51_000_000, False),
        (OLD * 10**9, 1_900_000_000, True),
        (OLD * 10**9, 2_100_000_000, False),
        (OLD * 10**9 + 1, -49_000_000, True),
    ],
)
def test_racy_window(mtime_ns: int, age_ns: int, racy: bool) -> None:
    assert local._racy(mtime_ns, mtime_ns + age_ns).startswith(":racy-") is racy


def test_another_parser_version_is_another_fingerprint(tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    from include.sources import parse

    write(tmp_path / "a.md")
    (before,) = opened(tmp_path).listing()
    monkeypatch.setitem(parse._VERSIONS, "markdown", "2")
    parse.parser_fingerprint.cache_clear()
    (after,) = opened(tmp_path).listing()
    monkeypatch.undo()
    parse.parser_fingerprint.cache_clear()
    assert before.fingerprint != after.fingerprint


def test_raising_the_size_limit_reads_what_was_refused(tmp_path: Path, opened: Opener) -> None:
    write(tmp_path / "a.md", "x" * 100)
    write(tmp_path / "b.md", "x")
    (a, b), (a2, b2) = opened(tmp_path, max_bytes=50).listing(), opened(tmp_path, max_bytes=200).listing()
    assert a.fingerprint != a2.fingerprint
    assert b == b2


def test_a_name_that_is_not_utf8_can_be_stored_and_is_explained(tmp_path: Path, documents: Reader) -> None:
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.md"))).write_text("text")
    (document,) = documents(tmp_path)
    assert document.uri == "caf\\xe9.md"
    assert "not valid UTF-8; rename it" in document.problem


def test_ten_thousand_files_are_listed_without_being_opened(
    tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in range(100):
        (tmp_path / str(folder)).mkdir()
        for name in range(100):
            (tmp_path / str(folder) / f"{name}.md").touch()
    source = opened(tmp_path)
    for module in (builtins, io, os):
        monkeypatch.setattr(module, "open", lambda path, *_, **__: pytest.fail(f"{path} was opened"))
    assert sum(1 for _ in source.listing()) == 10_000

"""Rows stream out one by one; a bad row has its line and its reason, and takes no other with it."""

from __future__ import annotations

import codecs
import gzip
import json
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.config import PROJECT_ROOT
from include.errors import BadConfiguration
from include.sources.lines import Line
from include.sources.rows import parse_row

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from include.sources.source import Document
    from tests.sources.conftest import Opener, Reader

SCIFACT = PROJECT_ROOT.parent / "shared" / "data" / "scifact" / "corpus.jsonl.gz"


def row(**fields: Any) -> bytes:
    return json.dumps({"id": "a", "text": "text"} | fields).encode()


def rows(path: Path, lines: Iterable[bytes], end: bytes = b"\n") -> Path:
    path.write_bytes(b"".join(line + end for line in lines))
    return path


def parsed(line: bytes) -> Document:
    return parse_row(Line(7, line, len(line)), "c.jsonl")


def test_rows(tmp_path: Path, documents: Reader) -> None:
    line = row(id="d1", title="T", text="body", metadata={"year": 2020, "tags": ["x", None]}, acl=["team-a"])
    path = rows(tmp_path / "c.jsonl", [line, b"", b"  \t", row(id=7, title=None), row(id="e", title="", text="")])
    first, second, third = documents(path, "jsonl")
    assert (first.uri, first.object_uri, first.text) == ("d1", "c.jsonl", "T\n\nbody")
    assert first.metadata == {"year": 2020, "tags": ["x", None], "title": "T"}
    assert (first.acl, first.size, first.locator, first.problem) == (("team-a",), len(line), "line 1", "")
    assert (second.uri, second.text, second.metadata, second.acl, second.locator) == ("7", "text", {}, None, "line 4")
    assert (third.text, third.problem) == ("", "")


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_line_ends_marks_and_no_last_newline(tmp_path: Path, documents: Reader, end: bytes) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes(codecs.BOM_UTF8 + row(id="a") + end + row(id="b", text="Größe\u2028x"))
    assert [(d.uri, d.text, d.problem) for d in documents(path, "jsonl")] == [
        ("a", "text", ""),
        ("b", "Größe\u2028x", ""),
    ]


@pytest.mark.parametrize("name", ["c.jsonl.gz", "c.jsonl", "c.data"])
def test_gzip_is_seen_by_its_content(tmp_path: Path, documents: Reader, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(row(id="a") + b"\n") + gzip.compress(row(id="b")))
    assert [d.uri for d in documents(tmp_path / name, "jsonl")] == ["a", "b"]


def test_a_folder_with_a_glob(tmp_path: Path, documents: Reader) -> None:
    rows(tmp_path / "b.jsonl", [row(id="b")])
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a.jsonl.gz").write_bytes(gzip.compress(row(id="a")))
    rows(tmp_path / "notes.txt", [b"not rows"])
    rows(tmp_path / ".c.jsonl", [row(id="hidden")])
    assert [(d.uri, d.object_uri) for d in documents(tmp_path, "jsonl")] == [("a", "a/a.jsonl.gz"), ("b", "b.jsonl")]
    assert [d.uri for d in documents(tmp_path, "jsonl", glob="*.jsonl")] == ["b"]


@pytest.mark.parametrize(
    ("line", "uri", "problem"),
    [
        (b"{", "#", "malformed JSON at column 2"),
        (b'{"id": "a", "text": "x"} {}', "#", "malformed JSON at column 26"),
        (b"not json", "#", "malformed JSON at column 1"),
        (b"[1]", "#", "the line is a JSON array, not an object"),
        (b'"x"', "#", "the line is a JSON string, not an object"),
        (b"null", "#", "the line is a JSON null, not an object"),
        (b'{"id": "a", "text": "\xff"}', "#", "invalid UTF-8 at byte 22"),
        (b'{"id": "a", "text": "x", "metadata": {"n": NaN}}', "#", "malformed JSON (NaN is not a JSON number)"),
        (b'{"id": ' + b"9" * 5000 + b', "text": "x"}', "#", "malformed JSON ("),
        (b"[" * 100_000, "#", "malformed JSON ("),
        (b'{"text": "x"}', "#", "id is missing"),
        (row(id=""), "#", "id is empty"),
        (row(id="  "), "#", "id is empty"),
        (row(id=True), "#", "id is a JSON boolean"),
        (row(id=1.5), "#", "id is a JSON number"),
        (row(id="x" * 1001), "#", "id is longer than 1,000 bytes"),
        (row(id="a\0"), "#", "id holds a NUL character"),
        (row(id="\ud800"), "#", "id holds a lone surrogate (\\ud800)"),
        (b'{"id": "a"}', "a", "text is missing"),
        (row(text=None), "a", "text is missing"),
        (row(text=["x"]), "a", "text is a JSON array; make it a string"),
        (row(text="a\0b"), "a", "text holds a NUL character"),
        (row(text="a\ud800b"), "a", "text holds a lone surrogate (\\ud800)"),
        (row(title=5), "a", "title is a JSON number"),
        (row(title="\0"), "a", "title holds a NUL character"),
        (row(metadata=[]), "a", "metadata is a JSON array; make it an object"),
        (row(metadata={"a": [{"b": "\0"}]}), "a", "metadata holds a NUL character"),
        (row(metadata={"\udfff": 1}), "a", "metadata holds a lone surrogate (\\udfff)"),
        (b'{"id": "a", "text": "x", "metadata": {"n": 1e999}}', "a", "metadata holds a number too large"),
        (row(acl="team-a"), "a", "acl is not a list of names"),
        (row(acl=[1]), "a", "acl is not a list of names"),
        (row(acl=[""]), "a", "acl is not a list of names"),
    ],
)
def test_bad_rows(tmp_path: Path, documents: Reader, line: bytes, uri: str, problem: str) -> None:
    path = rows(tmp_path / "c.jsonl", [row(id="good"), line, row(id="also good")])
    first, bad, last = documents(path, "jsonl")
    assert [first.problem, last.problem] == ["", ""]
    assert bad.problem.startswith(problem)
    assert "\n" not in bad.problem
    assert (bad.uri, bad.locator, bad.text) == (uri.replace("#", "c.jsonl#L2"), "line 2", "")


def test_nobody_and_everybody() -> None:
    assert parsed(row(acl=[])).acl == ()
    assert parsed(row(acl=None)).acl is None


def test_escaped_pairs_are_characters() -> None:
    assert parsed(b'{"id": "a", "text": "\\ud83d\\ude00"}').text == "😀"


def test_duplicate_ids(tmp_path: Path, documents: Reader) -> None:
    lines = [row(id="1", text="one"), row(id="b"), row(id=1, text="two", acl=["x"]), row(id="b", text=5), row(id="1")]
    first, b, second, b2, third = documents(rows(tmp_path / "c.jsonl", lines), "jsonl")
    assert (first.text, first.problem, b.problem) == ("one", "", "")
    assert [(d.uri, d.locator) for d in (second, b2, third)] == [("1", "line 3"), ("b", "line 4"), ("1", "line 5")]
    assert second.problem == "duplicate id: first seen at line 1; give each row its own id"
    assert "first seen at line 2" in b2.problem
    assert "first seen at line 1" in third.problem
    assert (second.text, second.metadata) == ("", {})


def test_duplicates_are_looked_for_inside_one_object(tmp_path: Path, documents: Reader) -> None:
    rows(tmp_path / "a.jsonl", [row()])
    rows(tmp_path / "b.jsonl", [row()])
    assert [(d.uri, d.problem) for d in documents(tmp_path, "jsonl")] == [("a", ""), ("a", "")]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_the_limit_is_a_rows(tmp_path: Path, documents: Reader, end: bytes) -> None:
    at_limit = row(id="fits", text="x" * 50)
    over = row(id="over", text="x" * 51)
    path = rows(tmp_path / "c.jsonl", [at_limit, over, at_limit.replace(b"fits", b"next")], end)
    assert len(over) == len(at_limit) + 1
    fits, refused, following = documents(path, "jsonl", max_bytes=len(at_limit))
    assert (fits.problem, following.uri, following.problem) == ("", "next", "")
    assert (refused.uri, refused.locator, refused.size) == ("c.jsonl#L2", "line 2", len(over))
    limited = f"the limit validation.max_bytes is {len(at_limit)}; raise it or split the row"
    assert refused.problem == f"line 2 is {len(over)} bytes, {limited}"


@pytest.mark.parametrize("last", [False, True])
def test_a_giant_line_is_not_held(tmp_path: Path, opened: Opener, last: bool) -> None:
    path = tmp_path / "c.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(row(id="a") + b"\n")
        for _ in range(52):
            stream.write(b"x" * 1_000_000)
        stream.write(b"" if last else b"\n" + row(id="b"))
    source = opened(path, "jsonl", max_bytes=1_000_000)
    tracemalloc.start()
    found = [(d.uri, d.size, d.problem[:24]) for obj in source.listing() for d in source.read(obj)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    good = [("b", len(row(id="b")), "")]
    assert found[1:] == [("c.jsonl.gz#L2", 52_000_000, "line 2 is 52,000,000 byt"), *([] if last else good)]
    assert peak < 5_000_000


def test_rows_are_streamed(tmp_path: Path, opened: Opener) -> None:
    path = rows(tmp_path / "c.jsonl", (row(id=str(n), text="x" * 10_000) for n in range(3000)))
    source = opened(path, "jsonl")
    (obj,) = source.listing()
    tracemalloc.start()
    assert sum(1 for _ in source.read(obj)) == 3000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000


def test_truncated_gzip_keeps_the_rows_before(tmp_path: Path, documents: Reader) -> None:
    lines = b"".join(row(id=str(n), text=f"text {n * 7919 % 1000}") + b"\n" for n in range(2000))
    whole = gzip.compress(lines, mtime=0)
    (tmp_path / "c.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    *good, last = documents(tmp_path / "c.jsonl.gz", "jsonl")
    available = gzip_prefix(whole[: len(whole) // 2]).count(b"\n")
    assert available > 500
    assert [d.uri for d in good] == [str(n) for n in range(available)]
    assert not any(d.problem for d in good)
    assert (last.uri, last.object_uri) == ("c.jsonl.gz#truncated", "c.jsonl.gz")
    assert f"damaged after line {available}" in last.problem


def gzip_prefix(raw: bytes) -> bytes:
    import zlib

    return zlib.decompressobj(31).decompress(raw)


@pytest.mark.parametrize("damage", ["checksum", "tail", "body"])
def test_damaged_gzip(tmp_path: Path, documents: Reader, damage: str) -> None:
    raw = bytearray(gzip.compress(b"".join(row(id=str(n), text=str(n * n)) + b"\n" for n in range(5000))))
    if damage == "checksum":
        raw[-8] ^= 0xFF
    elif damage == "tail":
        raw += b"garbage"
    else:
        raw[len(raw) // 2 : len(raw) // 2 + 50] = b"\xff" * 50
    (tmp_path / "c.jsonl.gz").write_bytes(raw)
    found = documents(tmp_path / "c.jsonl.gz", "jsonl")
    assert found[-1].uri == "c.jsonl.gz#truncated"
    assert len(found) == 5001 if damage != "body" else 1000 < len(found) < 5001
    assert found[0].problem == ""


@pytest.mark.parametrize(
    ("name", "raw", "uri", "problem"),
    [
        ("c.jsonl.gz", b"", "c.jsonl.gz#truncated", "damaged after line 0 (the file is empty)"),
        ("c.jsonl.gz", gzip.compress(row(), mtime=0)[:5], "c.jsonl.gz#truncated", "damaged after line 0"),
        ("c.jsonl.gz", row(), "c.jsonl.gz", "ends in .gz but is not gzip"),
        ("c.jsonl", row().decode().encode("utf-16"), "c.jsonl", "is UTF-16 or UTF-32, JSON lines are UTF-8"),
    ],
)
def test_files_that_are_no_jsonl(tmp_path: Path, documents: Reader, name: str, raw: bytes, uri: str, problem: str) -> None:
    (tmp_path / name).write_bytes(raw)
    (document,) = documents(tmp_path / name, "jsonl")
    assert document.uri == uri
    assert problem in document.problem


def test_an_empty_file_has_no_rows(tmp_path: Path, documents: Reader) -> None:
    assert documents(rows(tmp_path / "c.jsonl", []), "jsonl") == []


def test_a_file_gone_since_it_was_listed(tmp_path: Path, opened: Opener) -> None:
    path = rows(tmp_path / "c.jsonl", [row()])
    source = opened(path, "jsonl")
    (obj,) = source.listing()
    assert obj.uri == "c.jsonl"
    path.unlink()
    (document,) = source.read(obj)
    assert (document.uri, "gone since it was listed" in document.problem) == ("c.jsonl", True)


def test_an_absent_file(tmp_path: Path, opened: Opener) -> None:
    with pytest.raises(BadConfiguration, match="does not exist"):
        opened(tmp_path / "c.jsonl", "jsonl").listing()


def test_another_limit_reads_the_rows_again(tmp_path: Path, opened: Opener) -> None:
    path = rows(tmp_path / "c.jsonl", [row()])
    time.sleep(0.06)
    (a,), (b,), (c,) = (opened(path, "jsonl", max_bytes=limit).listing() for limit in (10, 10, 20))
    assert a == b
    assert a.fingerprint != c.fingerprint


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_line_gives_one_document(line: bytes) -> None:
    document = parsed(line)
    assert document.problem or document.uri
    json.dumps([document.uri, document.text, document.metadata, document.problem], ensure_ascii=False).encode()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["id", "title", "text", "metadata", "acl"]), json_values))
def test_any_object_gives_a_storable_document(fields: dict[str, Any]) -> None:
    document = parsed(json.dumps(fields).encode())
    stored = json.dumps([document.uri, document.text, document.metadata], ensure_ascii=False, allow_nan=False)
    stored.encode()
    assert "\0" not in document.uri + document.text


@pytest.mark.skipif(not SCIFACT.exists(), reason="../shared/data/scifact is absent")
def test_scifact_reads_in_under_a_second(documents: Reader) -> None:
    before = time.monotonic()
    found = documents(SCIFACT, "jsonl")
    assert time.monotonic() - before < 1
    assert len(found) == len({d.uri for d in found}) == 5183
    assert not any(d.problem for d in found)
    assert all(d.text.startswith(f"{d.metadata['title']}\n\n") for d in found)

"""Files become documents; a bad one says why and the others go on."""

from __future__ import annotations

import codecs
import io
import logging
import os
import zipfile
from typing import TYPE_CHECKING

import docx
import pytest
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

from include.sources.parse import title_of

if TYPE_CHECKING:
    from pathlib import Path

    from include.sources.source import Document
    from tests.sources.conftest import Opener, Reader


def pdf(*pages: str, password: str = "") -> bytes:
    buffer = io.BytesIO()
    canvas = Canvas(buffer, encrypt=StandardEncryption(password, canPrint=0) if password else None)
    for page in pages:
        canvas.drawString(72, 720, page)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def word(heading: str, *paragraphs: str) -> bytes:
    document = docx.Document()
    document.add_heading(heading, level=1)
    for paragraph in paragraphs:
        document.add_paragraph(paragraph)
    table = document.add_table(rows=2, cols=2)
    for row, cells in enumerate((("key", "value"), ("port", "5432"))):
        for column, text in enumerate(cells):
            table.cell(row, column).text = text
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def one(documents: Reader, folder: Path, name: str, raw: bytes, **options: int) -> Document:
    """The document of one file that stands between two good ones, which must come out whatever it is."""
    for other in ("000.md", "zzz.md"):
        (folder / other).write_text(other)
    (folder / name).write_bytes(raw)
    first, document, last = documents(folder, **options)
    assert (first.text, first.problem, last.text, last.problem) == ("000.md", "", "zzz.md", "")
    assert (document.uri, document.object_uri) == (name, name)
    assert "\n" not in document.problem
    assert "Traceback" not in document.problem
    assert bool(document.problem) <= (document.text == "")
    return document


def test_markdown_is_taken_as_it_is(tmp_path: Path, documents: Reader) -> None:
    raw = "# Größe ##\r\n\r\ntext \f with form feed\r"
    document = one(documents, tmp_path, "a.md", raw.encode())
    assert document.text == raw
    assert document.metadata == {"path": "a.md", "type": "markdown", "title": "Größe"}
    assert (document.size, document.acl, document.problem) == (len(raw.encode()), None, "")


def test_metadata_holds_nothing_volatile(tmp_path: Path, documents: Reader) -> None:
    before = one(documents, tmp_path, "a.md", b"# A")
    os.utime(tmp_path / "a.md", (1, 1))
    assert one(documents, tmp_path, "a.md", b"# A") == before


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.markdown", "markdown"), ("a.mdx", "markdown"), ("a.txt", "text"), ("a.rst", "text"), ("a.TEXT", "text")],
)
def test_types(tmp_path: Path, documents: Reader, name: str, kind: str) -> None:
    assert one(documents, tmp_path, name, b"x").metadata == {"path": name, "type": kind, "title": "a"}


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("# One\n# Two", "One"),
        ("intro\n\n  #   Spaced\t title  \r\n", "Spaced title"),
        ("# C#\n", "C#"),
        ("# Closed ###", "Closed"),
        ("## Second\n\n# First", "First"),
        ("Setext\n======\n", "Setext"),
        ("======\nTitle\n======\n\nreStructuredText", "Title"),
        ("```sh\n# comment\n```\n# Real", "Real"),
        ("~~~\n# a\n```\n# b\n~~~\n# Real", "Real"),
        ("```\n# never closed", ""),
        ("<!-- licence\n# not a title\n-->\n# Real", "Real"),
        ("---\n# yaml comment\ntitle: x\n---\n# Real", "Real"),
        ("#hashtag", ""),
        ("    # code", ""),
        ("#\n# \n# Full", "Full"),
        ("", ""),
        ("# " + "x" * 1000, "x" * 300),
    ],
)
def test_title_is_the_first_heading(text: str, title: str) -> None:
    assert title_of(text) == title


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "text",
    ["# " + " " * 10**6 + "x" + "#" * 10**6, "<!--" * 10**6, "```\n" * 10**6, "=\n" * 10**6],
    ids=["spaces", "comments", "fences", "rules"],
)
def test_titles_of_odd_texts_take_no_time(text: str) -> None:
    title_of(text)


def test_html(tmp_path: Path, documents: Reader) -> None:
    html = (
        "<html><head><title>The\n title</title><style>p{}</style></head><body><h2>Part</h2><p>Größe &amp; "
        "<b>bold</b>\x0c</p><ul><li>one</li></ul><script>alert(1)</script></body></html>"
    )
    document = one(documents, tmp_path, "a.html", html.encode())
    assert "## Part" in document.text
    assert "Größe & **bold**" in document.text
    assert "* one" in document.text
    assert not {"alert", "p{}", "\x0c"} & set(document.text.split())
    assert document.metadata == {"path": "a.html", "type": "html", "title": "The title"}


def test_html_heading_is_its_title(tmp_path: Path, documents: Reader) -> None:
    document = one(documents, tmp_path, "a.xhtml", b"<?xml version='1.0'?><title>T</title><h1>H <i>1</i></h1>")
    assert document.metadata["title"] == "H *1*"


def test_html_names_its_encoding(tmp_path: Path, documents: Reader) -> None:
    html = "<html><head><meta charset='windows-1251'></head><body>Привет, мир</body></html>"
    document = one(documents, tmp_path, "a.htm", html.encode("cp1251"))
    assert document.text == "Привет, мир"
    assert document.metadata["encoding"] == "cp1251"


def test_html_nested_too_deeply_is_text_and_said_so(
    tmp_path: Path, documents: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    document = one(documents, tmp_path, "a.html", b"<div>" * 5000 + b"deep" + b"</div>" * 5000)
    assert (document.text == "deep") != bool(document.problem)
    assert "nested too deeply" in caplog.text + document.problem


def test_pdf(tmp_path: Path, documents: Reader) -> None:
    document = one(documents, tmp_path, "report.pdf", pdf("The first page says hello.", "The second page says goodbye."))
    assert "The first page says hello." in document.text
    assert "The second page says goodbye." in document.text
    assert not {"\x0c", "\0"} & set(document.text)
    assert document.metadata == {"path": "report.pdf", "type": "pdf", "title": "report"}


def test_docx(tmp_path: Path, documents: Reader) -> None:
    document = one(documents, tmp_path, "a.docx", word("Install", "Run the setup.", "Grüße"))
    assert document.text.startswith("# Install")
    assert "Grüße" in document.text
    assert "| port | 5432 |" in document.text
    assert document.metadata == {"path": "a.docx", "type": "docx", "title": "Install"}


def test_an_empty_file_is_a_good_document(tmp_path: Path, documents: Reader) -> None:
    document = one(documents, tmp_path, "a.md", b"")
    assert (document.text, document.problem, document.metadata["title"]) == ("", "", "a")


def test_latin_1_and_utf_16_are_read_and_noted(tmp_path: Path, documents: Reader) -> None:
    latin = one(documents, tmp_path, "l.txt", "# Café\n".encode("latin-1"))
    assert (latin.text, latin.metadata["encoding"]) == ("# Café\n", "cp1252")
    (tmp_path / "l.txt").unlink()
    wide = one(documents, tmp_path, "w.md", "# Café\n".encode("utf-16"))
    assert (wide.text, wide.metadata["encoding"]) == ("# Café\n", "utf-16-le")
    (tmp_path / "w.md").unlink()
    marked = one(documents, tmp_path, "m.md", codecs.BOM_UTF8 + b"# A")
    assert (marked.text, "encoding" in marked.metadata) == ("# A", False)


def truncated_docx() -> bytes:
    return word("Title", "text")[:-200]


def other_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", "hello")
    return buffer.getvalue()


def bomb() -> bytes:
    buffer = io.BytesIO(word("Title"))
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/media/zeros.bin", bytes(50_000_000))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "raw", "problem"),
    [
        ("a.md", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "not text: it begins as a PNG image does"),
        ("a.md", bytes(range(256)), "not text: it holds NUL bytes"),
        ("a.html", b"PK\x03\x04\0\0", "not text: it begins as a zip archive"),
        ("a.pdf", b"", "not a PDF"),
        ("a.pdf", b"hello", "not a PDF"),
        ("a.pdf", b"%PDF-1.7\ngarbage that is not a PDF at all", "broken PDF: "),
        ("a.pdf", pdf("hello")[:300], "broken PDF: "),
        ("a.pdf", pdf("hello", password="secret"), "the PDF is protected by a password; remove the password"),
        ("a.pdf", pdf(""), "holds no text, perhaps scanned images; run OCR first"),
        ("a.docx", b"", "broken DOCX: "),
        ("a.docx", b"hello", "broken DOCX: "),
        ("a.docx", truncated_docx(), "broken DOCX: "),
        ("a.docx", other_zip(), "not a DOCX"),
        ("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500), "the DOCX is protected by a password, or an old"),
    ],
)
def test_bad_files(tmp_path: Path, documents: Reader, name: str, raw: bytes, problem: str) -> None:
    document = one(documents, tmp_path, name, raw)
    assert document.problem.startswith(problem)
    assert document.metadata["path"] == name


def test_a_docx_that_unpacks_to_too_much(tmp_path: Path, documents: Reader) -> None:
    document = one(documents, tmp_path, "a.docx", bomb(), max_bytes=1_000_000)
    assert "unpacks to 50," in document.problem


def test_parsers_keep_quiet(tmp_path: Path, documents: Reader, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        one(documents, tmp_path, "a.pdf", b"%PDF-1.7\ngarbage")
        (tmp_path / "a.pdf").unlink()
        one(documents, tmp_path, "a.pdf", pdf("hello"))
    assert [r.name for r in caplog.records if r.name.startswith(("pdfminer", "markitdown", "pdfplumber"))] == []


def test_a_50_mb_file_is_not_opened(tmp_path: Path, opened: Opener) -> None:
    (tmp_path / "big.md").write_bytes(b"")
    os.truncate(tmp_path / "big.md", 52_428_800)
    source = opened(tmp_path)
    (obj,) = source.listing()
    (tmp_path / "big.md").unlink()  # opening it would be another problem
    (document,) = source.read(obj)
    assert document.problem == (
        "big.md is 52,428,800 bytes, the limit validation.max_bytes is 20,000,000; raise it or split the file"
    )
    assert (document.text, document.size) == ("", 52_428_800)


def test_the_limit_itself_is_allowed(tmp_path: Path, documents: Reader) -> None:
    assert one(documents, tmp_path, "a.md", b"x" * 100, max_bytes=100).problem == ""
    assert "101 bytes" in one(documents, tmp_path, "a.md", b"x" * 101, max_bytes=100).problem


def test_a_file_that_grew_or_went_since_it_was_listed(tmp_path: Path, opened: Opener) -> None:
    for name in ("gone.md", "grown.md", "huge.md", "folder.md"):
        (tmp_path / name).write_text("x")
    source = opened(tmp_path, max_bytes=100)
    listed = list(source.listing())
    (tmp_path / "gone.md").unlink()
    (tmp_path / "grown.md").write_text("y" * 100)
    (tmp_path / "huge.md").write_text("z" * 101)
    (tmp_path / "folder.md").unlink()
    (tmp_path / "folder.md").mkdir()
    folder, gone, grown, huge = (document for obj in listed for document in source.read(obj))
    assert "not a regular file" in folder.problem
    assert "gone since it was listed" in gone.problem
    assert (grown.text, grown.size) == ("y" * 100, 100)
    assert "huge.md is over the limit validation.max_bytes of 100" in huge.problem


def test_reading_is_not_cached(tmp_path: Path, opened: Opener) -> None:
    (tmp_path / "a.md").write_text("one")
    source = opened(tmp_path)
    (obj,) = source.listing()
    (tmp_path / "a.md").write_text("two")
    assert next(source.read(obj)).text == "two"

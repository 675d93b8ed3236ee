"""Text is decoded right or refused; nothing in between."""

from __future__ import annotations

import codecs
import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.sources.decode import decode
from include.sources.source import Unreadable

GERMAN = "Die Größe der Straße überrascht jeden Fußgänger in München.\n"
RUSSIAN = "Привет, как дела? Это текст на русском языке.\n"
CHINESE = "你好,世界。这是一个用来测试的中文句子。Python 3\n" * 3


@pytest.mark.parametrize(
    ("raw", "text", "encoding"),
    [
        (b"", "", "utf-8"),
        (b"plain\r\ntext\r", "plain\r\ntext\r", "utf-8"),
        ("Café ☕ 你好".encode(), "Café ☕ 你好", "utf-8"),
        (codecs.BOM_UTF8 + "Café".encode(), "Café", "utf-8"),
        ("Café".encode("latin-1"), "Café", "cp1252"),
        ("“smart” — 20 € naïve".encode("cp1252"), "“smart” — 20 € naïve", "cp1252"),
        (GERMAN.encode("latin-1"), GERMAN, "cp1252"),
        (("x" * 5000 + " é " + "y" * 5000).encode("latin-1"), "x" * 5000 + " é " + "y" * 5000, "cp1252"),
        (GERMAN.encode("utf-16"), GERMAN, "utf-16-le"),
        (codecs.BOM_UTF16_BE + GERMAN.encode("utf-16-be"), GERMAN, "utf-16-be"),
        (GERMAN.encode("utf-16-le"), GERMAN, "utf-16-le"),
        (GERMAN.encode("utf-16-be"), GERMAN, "utf-16-be"),
        (RUSSIAN.encode("utf-16-le"), RUSSIAN, "utf-16-le"),
        (RUSSIAN.encode("utf-16-be"), RUSSIAN, "utf-16-be"),
        (CHINESE.encode("utf-16-le"), CHINESE, "utf-16-le"),
        (codecs.BOM_UTF32_LE + GERMAN.encode("utf-32-le"), GERMAN, "utf-32-le"),
        (codecs.BOM_UTF32_BE + GERMAN.encode("utf-32-be"), GERMAN, "utf-32-be"),
        (b"\x1b[31mred\x1b[0m console log", "\x1b[31mred\x1b[0m console log", "utf-8"),
        ("RIFF is a container — says the document".encode(), "RIFF is a container — says the document", "utf-8"),
    ],
)
def test_text(raw: bytes, text: str, encoding: str) -> None:
    decoded = decode(raw)
    assert (decoded.text, decoded.encoding) == (text, encoding)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "PNG"),
        (b"PK\x03\x04\x14\0\0\0\x08\0", "zip"),
        (gzip.compress(b"hello", mtime=0), "gzip"),
        (b"%PDF-1.4\nall ASCII", "PDF"),
        (b"\x7fELF\x02\x01\x01\0", "program"),
        (b"some text\0and more of it, of even length.", "NUL"),
        (b"some text\0and more of it, of odd length.", "NUL"),
        (b"a.txt\0b.txt\0c.txt\0d.txt\0", "NUL"),
        (bytes(range(256)) * 4, "NUL"),
        (bytes(range(1, 32)) * 10, "control characters"),
        (RUSSIAN.encode("cp1251"), "neither UTF-8"),
        ((RUSSIAN * 20).encode() + b"\xff", "UTF-8 except for 1 places, the first at byte"),
        ("日本語のテキスト".encode() + b"\xe6", "UTF-8 except for 1 places"),
    ],
)
def test_not_text(raw: bytes, why: str) -> None:
    with pytest.raises(Unreadable, match=f"not text: .*{why}"):
        decode(raw)


def test_a_declared_encoding_is_believed_when_it_is_not_utf8() -> None:
    assert decode(RUSSIAN.encode("cp1251"), "cp1251").text == RUSSIAN
    assert decode(RUSSIAN.encode(), "cp1251").text == RUSSIAN


@settings(deadline=None)
@given(st.text(st.characters(blacklist_categories=("Cs", "Cc"), whitelist_characters="\n\r\t")))
def test_any_utf8_text_comes_back_exactly(text: str) -> None:
    assert decode(codecs.BOM_UTF8 + text.encode()).text == text


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_decode_to_storable_text_or_are_refused(raw: bytes) -> None:
    try:
        text = decode(raw).text
    except Unreadable as error:
        assert str(error).startswith("not text: ")  # noqa: PT017
    else:
        assert "\0" not in text
        text.encode()

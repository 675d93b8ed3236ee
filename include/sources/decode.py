"""Bytes to text, or a plain refusal: a wrong guess would be indexed as rubbish and found by nobody."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from include.sources.source import Unreadable

_BOMS = (  # UTF-32 first: its little-endian mark begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_MAGIC = (
    (b"\x89PNG\r\n", "a PNG image"), (b"\xff\xd8\xff", "a JPEG image"), (b"GIF8", "a GIF image"),
    (b"PK\x03\x04", "a zip archive or an Office document"), (b"PK\x05\x06", "an empty zip archive"),
    (b"\x1f\x8b", "gzip data"), (b"BZh", "bzip2 data"), (b"\xfd7zXZ\0", "xz data"),
    (b"\x28\xb5\x2f\xfd", "zstandard data"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"), (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document"),
    (b"%PDF-", "a PDF"), (b"\x7fELF", "a program"), (b"SQLite format 3\0", "an SQLite database"),
    (b"PAR1", "a Parquet file"), (b"OggS", "Ogg audio"), (b"fLaC", "FLAC audio"), (b"RIFF", "a RIFF container"),
)  # fmt: skip
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b")) + b"\x7f"  # escape: console logs with colours are text
_MOST_CONTROLS = 0.05
_WIDE_SAMPLE = 1 << 16  # bytes
# Share of zero high bytes from which text without a mark is UTF-16. Spaces, line ends and Latin letters have them.
# Where all bytes are ASCII or NUL it can only be Latin text, or ASCII with stray NULs: that is not Chinese.
_WIDE_ZEROS = 0.1
_WIDE_ZEROS_ASCII = 0.9
_MULTIBYTE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_WESTERN = ["cp1252", "latin_1"]


@dataclass(frozen=True, slots=True)
class Decoded:
    """Text and the encoding it was in (Python's codec name)."""

    text: str
    encoding: str


def decode(raw: bytes, declared: str = "") -> Decoded:
    """Decode a text file; newlines stay as they are.

    Tried in turn: byte order marks, UTF-8, UTF-16 without a mark, ``declared``, Windows and ISO Latin.

    :param declared: encoding that the file itself names, as HTML does; tried when it is not UTF-8.
    :raises Unreadable: "not text: …".
    """
    for mark, encoding in _BOMS:
        if raw.startswith(mark):
            text = _strictly(raw[len(mark) :], encoding)
            if text is not None and "\0" not in text:
                return Decoded(text, encoding)
    _refuse_magic(raw)
    if b"\0" in raw:
        return _wide(raw)
    controls = len(raw) - len(raw.translate(None, _CONTROLS))
    if controls > len(raw) * _MOST_CONTROLS:
        raise _not_text(f"{controls:,} of its {len(raw):,} bytes are control characters")
    text = _strictly(raw, "utf-8")
    return Decoded(text, "utf-8") if text is not None else _narrow(raw, declared)


def _strictly(raw: bytes, encoding: str) -> str | None:
    try:
        return raw.decode(encoding)
    except (UnicodeError, LookupError):
        return None


def _refuse_magic(raw: bytes) -> None:
    for magic, kind in _MAGIC:
        if raw.startswith(magic) and (magic == b"%PDF-" or b"\0" in raw or _strictly(raw, "utf-8") is None):
            raise _not_text(f"it begins as {kind} does")  # "RIFF is a format" is text


def _wide(raw: bytes) -> Decoded:
    """UTF-16 without a mark: high bytes of common characters are zero, low bytes never are."""
    sample = raw[:_WIDE_SAMPLE]
    printable = sample.isascii() and len(sample.translate(None, _CONTROLS)) == len(sample) - sample.count(0)
    share = _WIDE_ZEROS_ASCII if printable else _WIDE_ZEROS
    for encoding, high in (("utf-16-le", sample[1::2]), ("utf-16-be", sample[0::2])):
        if high.count(0) >= max(1, len(high) * share):
            text = _strictly(raw, encoding)
            if text is not None and not _controls_in(text):
                return Decoded(text, encoding)
    raise _not_text("it holds NUL bytes")


def _controls_in(text: str) -> bool:
    return any(chr(code) in text for code in _CONTROLS)


def _narrow(raw: bytes, declared: str) -> Decoded:
    """Neither UTF-8 nor UTF-16: one byte a character, most likely."""
    from charset_normalizer import from_bytes

    if declared and (text := _strictly(raw, declared)) is not None and not _controls_in(text):
        return Decoded(text, declared)
    nearly = len(_MULTIBYTE.findall(raw))
    damaged = raw.decode("utf-8", "replace").count("\ufffd")
    if nearly > damaged:  # decoded as Latin, all its right characters would turn to rubbish
        at = _first_bad_byte(raw)
        raise _not_text(f"UTF-8 except for {damaged:,} places, the first at byte {at:,}", "repair it")
    best = from_bytes(raw, cp_isolation=_WESTERN).best()
    text = _strictly(raw, best.encoding) if best is not None else None
    if best is None or text is None:
        raise _not_text("neither UTF-8, UTF-16 nor Western Latin")
    return Decoded(text, codecs.lookup(best.encoding).name)


def _first_bad_byte(raw: bytes) -> int:
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return error.start
    return 0


def _not_text(why: str, fix: str = "save it as UTF-8 or exclude it with source.glob") -> Unreadable:
    return Unreadable(f"not text: {why}; {fix}")

"""HTML, PDF and DOCX to Markdown with markitdown; whatever is wrong with a file becomes one clear line."""

from __future__ import annotations

import codecs
import io
import logging
import re
import warnings
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.sources.decode import decode
from include.sources.source import Unreadable

if TYPE_CHECKING:
    from markitdown import DocumentConverter

logger = logging.getLogger(__name__)

_CHARSET = re.compile(
    rb"""<meta[^>]+charset\s*=\s*["']?\s*([a-zA-Z0-9_\-]+)|^\s*<\?xml[^>]+encoding=["']([a-zA-Z0-9_\-]+)""",
    re.IGNORECASE,
)
_CHARSET_WITHIN = 4096  # bytes; the HTML standard looks at 1024
_REPLACED = str.maketrans({"\f": "\n", "\0": None} | {chr(code): "\ufffd" for code in range(0xD800, 0xE000)})
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_MOST_UNPACKED = 20  # times max_bytes; a real DOCX unpacks to 2 to 10 times its size


@dataclass(frozen=True, slots=True)
class Converted:
    """Markdown, the title that the format itself carries, and the encoding where the format has one."""

    text: str
    title: str = ""
    encoding: str = ""


def convert(raw: bytes, kind: str, max_bytes: int) -> Converted:
    """Convert one html, pdf or docx file; form feeds become newlines, NULs and lone surrogates go.

    :raises Unreadable: broken, protected by a password, without text (pdf), or too large once unpacked (docx).
    """
    if kind == "html":
        decoded = decode(raw, _declared(raw))
        text, title = _markdown(decoded.text.encode(), kind)
        return Converted(text, title, decoded.encoding)
    if kind == "docx":
        _check_docx(raw, max_bytes)
    elif b"%PDF-" not in raw[:1024]:
        raise Unreadable("not a PDF: it does not begin with %PDF-; export it again")
    text, title = _markdown(raw, kind)
    if kind == "pdf" and not text.strip():
        raise Unreadable("holds no text, perhaps scanned images; run OCR first")
    return Converted(text, title)


def _markdown(raw: bytes, kind: str) -> tuple[str, str]:
    from markitdown import StreamInfo

    info = StreamInfo(extension=f".{kind}", charset="utf-8" if kind == "html" else None)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = _converter(kind).convert(io.BytesIO(raw), info)
    except MemoryError:
        raise
    except Exception as error:  # three parsers, each with its own exceptions, and whatever broken files make them raise
        raise Unreadable(_reason(error, kind)) from error
    for warning in caught:
        if "deeply nested" in str(warning.message):
            logger.warning("an HTML document is nested too deeply for Markdown: taken as plain text")
    return str(result.markdown).translate(_REPLACED), " ".join((result.title or "").split()).translate(_REPLACED)


def _converter(kind: str) -> DocumentConverter:
    """The one converter for a type: MarkItDown itself would load a model to guess what the suffix already says."""
    from markitdown.converters import DocxConverter, HtmlConverter, PdfConverter

    for name in ("markitdown", "pdfminer", "pdfplumber", "mammoth"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # a line for every odd font
    converters: dict[str, type[DocumentConverter]] = {"html": HtmlConverter, "pdf": PdfConverter, "docx": DocxConverter}
    return converters[kind]()


def _reason(error: Exception, kind: str) -> str:
    names = {type(cause).__name__ for cause in (error, error.__cause__, error.__context__) if cause is not None}
    if any("Password" in name or "Encryption" in name for name in names):
        return f"the {kind.upper()} is protected by a password; remove the password"
    detail = " ".join(str(error).split())[:200]
    return f"broken {kind.upper()}: {type(error).__name__}{f' ({detail})' if detail else ''}; export it again"


def _check_docx(raw: bytes, max_bytes: int) -> None:
    if raw.startswith(_OLE):
        raise Unreadable("the DOCX is protected by a password, or an old .doc; save it as .docx without a password")
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            unpacked = sum(item.file_size for item in archive.infolist())
            names = set(archive.namelist())
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, EOFError) as error:
        raise Unreadable(f"broken DOCX: {error}; export it again") from error
    if "[Content_Types].xml" not in names:
        raise Unreadable("not a DOCX: a zip archive of something else; export it again")
    if unpacked > max_bytes * _MOST_UNPACKED:
        limit = f"{_MOST_UNPACKED} times validation.max_bytes"
        raise Unreadable(f"the DOCX unpacks to {unpacked:,} bytes, over {limit}; split it")


def _declared(raw: bytes) -> str:
    """The encoding that HTML names; none when it cannot be true or means Windows Latin, as browsers have it."""
    match = _CHARSET.search(raw[:_CHARSET_WITHIN])
    try:
        name = codecs.lookup((match[1] or match[2]).decode("ascii")).name if match else ""
    except LookupError:
        return ""
    return "" if name.startswith(("utf", "iso8859-1", "ascii")) else name

"""A file's bytes to Markdown and metadata; markitdown does HTML, PDF and DOCX."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

from include.sources.convert import convert
from include.sources.decode import decode

if TYPE_CHECKING:
    from include.sources.source import Json

_SUFFIXES = {
    "markdown": (".md", ".markdown", ".mdx"),
    "text": (".txt", ".text", ".rst"),
    "html": (".html", ".htm", ".xhtml"),
    "pdf": (".pdf",),
    "docx": (".docx",),
}
TYPES = {suffix: name for name, suffixes in _SUFFIXES.items() for suffix in suffixes}
_VERSIONS = {"markdown": "1", "text": "1", "html": "1", "pdf": "1", "docx": "1"}  # raise one when its output changes
_ENGINES = {
    "html": ("markitdown", "markdownify"),
    "pdf": ("markitdown", "pdfminer.six", "pdfplumber"),
    "docx": ("markitdown", "mammoth", "markdownify"),
}
_LONGEST_TITLE = 300  # characters

# A fence or comment hides the lines up to its end, or the file's; a first-level heading is what is left to find.
_HEADINGS = re.compile(
    r"^ {0,3}(?P<fence>`{3,}|~{3,})[^\n]*(?:\n(?! {0,3}(?P=fence))[^\n]*)*(?:\n {0,3}(?P=fence)[^\n]*)?"
    r"|<!--(?:(?!-->)[\s\S])*"
    r"|^ {0,3}#[ \t]+(?P<atx>[^\n]*)"
    r"|^ {0,3}(?P<setext>[^\s=][^\n]*)\n {0,3}={2,}[ \t]*\r?$",
    re.MULTILINE,
)
_FRONT_MATTER = re.compile(r"\A---[ \t]*\r?\n(?:(?!---)[^\n]*\n)*---[ \t]*\r?\n")


@dataclass(frozen=True, slots=True)
class Parsed:
    """Markdown and what is known about it: path, type, title, and the encoding when it is not UTF-8."""

    text: str
    metadata: dict[str, Json]


def type_of(uri: str) -> str | None:
    """The document type that a file's suffix says: markdown, text, html, pdf, docx, or None."""
    return TYPES.get(posixpath.splitext(uri)[1].lower())


@cache
def parser_fingerprint(kind: str) -> str:
    """Changes when the same bytes may parse to other text, without importing the parser: "pdf:1:markitdown-0.1.8…"."""
    engines = (f"{name}-{version(name)}" for name in _ENGINES.get(kind, ()))
    return ":".join((kind, _VERSIONS[kind], *engines))


def parse(raw: bytes, uri: str, kind: str, max_bytes: int) -> Parsed:
    """One file as Markdown.

    :param kind: as ``type_of`` gives it.
    :param max_bytes: limit that bounds what a compressed file may unpack to.
    :raises Unreadable: broken, protected, not text.
    """
    metadata: dict[str, Json] = {"path": uri, "type": kind, "title": ""}
    if kind in ("markdown", "text"):
        decoded = decode(raw)
        text, heading = decoded.text, ""
        if decoded.encoding != "utf-8":
            metadata["encoding"] = decoded.encoding
    else:
        converted = convert(raw, kind, max_bytes)
        text, heading = converted.text, converted.title
        if converted.encoding not in ("", "utf-8"):
            metadata["encoding"] = converted.encoding
    metadata["title"] = title_of(text) or heading[:_LONGEST_TITLE] or posixpath.splitext(posixpath.basename(uri))[0]
    return Parsed(text, metadata)


def title_of(text: str) -> str:
    """The first first-level heading outside fences, comments and front matter, or ""."""
    front = _FRONT_MATTER.match(text)
    for match in _HEADINGS.finditer(text, front.end() if front else 0):
        title = " ".join((match["setext"] or _without_closing(match["atx"] or "")).split())
        if title:
            return title[:_LONGEST_TITLE]
    return ""


def _without_closing(heading: str) -> str:
    """``# Title ##`` is closed by its last signs, ``# C#`` is not."""
    words = heading.split()
    return " ".join(words[:-1] if words and not words[-1].strip("#") else words)

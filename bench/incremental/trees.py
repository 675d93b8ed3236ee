"""The folder that all peers read: two versions of real documentation, and what may happen to files."""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    from pathlib import Path

_BOM, _CRLF = b"\xef\xbb\xbf", b"\r\n"


def materialize(series: Path, version: str, folder: Path, *, files: int = 0) -> Path:
    """The Markdown files of one version, and no others; marks and line ends that readers treat differently are plain.

    :param files: only so many, chosen by a hash of the path, so that two versions keep about the same ones; 0: all.
    """
    raw = folder / f"{version}-raw"
    command = [sys.executable, str(series / "materialize.py"), version, str(raw)]
    subprocess.run(command, check=True, stdout=sys.stderr)
    plain = folder / version
    found = sorted(raw.rglob("*.md"), key=lambda path: crc32(path.relative_to(raw).as_posix().encode()))
    for path in found[: files or None]:
        target = plain / path.relative_to(raw)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes().removeprefix(_BOM).replace(_CRLF, b"\n"))
    shutil.rmtree(raw)
    return plain


def sync(tree: Path, documents: Path) -> None:
    """Make ``documents`` equal to ``tree``, touching only what differs, as a checkout does."""
    documents.mkdir(parents=True, exist_ok=True)
    wanted = {path.relative_to(tree) for path in tree.rglob("*.md")}
    for path in sorted(documents.rglob("*.md")):
        if path.relative_to(documents) not in wanted:
            path.unlink()
    for relative in sorted(wanted):
        target = documents / relative
        if not target.exists() or not filecmp.cmp(tree / relative, target, shallow=False):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(tree / relative, target)


def touch(documents: Path) -> None:
    """New modification times, the same bytes."""
    for path in documents.rglob("*.md"):
        os.utime(path)


def rename(documents: Path) -> None:
    """Every file gets another name; contents and modification times stay."""
    for path in sorted(documents.rglob("*.md")):
        path.rename(path.with_name(f"{path.stem}.renamed.md"))


def clear(documents: Path) -> None:
    """No folder, no files."""
    shutil.rmtree(documents, ignore_errors=True)

"""Promise 2: a run over unchanged sources embeds 0 texts, writes 0 chunk rows, and reads no file whose fingerprint matches."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from include.sources.files import FilesSource
from include.sources.jsonl import JsonlSource
from tests.conftest import write_rows
from tests.support import HashEmbedder, index, query

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from include.config import Settings


def _forbid(*_: object) -> NoReturn:
    raise AssertionError("an unchanged object was opened")


def _age(path: Path) -> None:
    """Make a file old enough that its time stamp can be trusted."""
    past = time.time() - 60
    os.utime(path, (past, past))


def test_files(settings: Settings, documents: Path, collection: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        (documents / f"{number}.md").write_text(f"# Page {number}\n\nText of page {number}.")
        _age(documents / f"{number}.md")
    collection()
    first = index(settings, "handbook", embedder=HashEmbedder())
    assert (first["plan"]["added"], first["chunks"]["embedded"]) == (30, 30)
    table = f"chunks_{first['generation']}"
    before = _row_versions(settings, table)
    monkeypatch.setattr(FilesSource, "read", _forbid)
    embedder = HashEmbedder()
    again = index(settings, "handbook", embedder=embedder)
    assert embedder.texts == []
    assert again["plan"] == {"added": 0, "changed": 0, "metadata_only": 0, "renamed": 0, "deleted": 0, "unchanged": 30}
    assert again["chunks"] == {"total": 30, "embedded": 0, "reused": 0, "written": 0, "deleted": 0}
    assert _row_versions(settings, table) == before


def test_touched_files_are_read_and_nothing_else(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    for number in range(5):
        (documents / f"{number}.md").write_text(f"Text of page {number}.")
    collection()
    first = index(settings, "handbook", embedder=HashEmbedder())
    before = _row_versions(settings, f"chunks_{first['generation']}")
    for path in documents.iterdir():
        _age(path)
    again = index(settings, "handbook", embedder=HashEmbedder())
    assert (again["plan"]["unchanged"], again["chunks"]["embedded"], again["chunks"]["written"]) == (5, 0, 0)
    assert _row_versions(settings, f"chunks_{first['generation']}") == before


def test_one_edit_costs_one_document(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    write_rows(documents / "rows.jsonl", [{"id": str(i), "text": f"Row {i}."} for i in range(200)])
    collection(source={"type": "jsonl", "path": str(documents / "rows.jsonl")})
    index(settings, "handbook", embedder=HashEmbedder())
    write_rows(documents / "rows.jsonl", [{"id": str(i), "text": f"Row {i}{'!' if i == 7 else '.'}"} for i in range(200)])
    embedder = HashEmbedder()
    again = index(settings, "handbook", embedder=embedder)
    assert [t for t in embedder.texts if t.startswith("Row")] == ["Row 7!"]
    assert (again["plan"]["changed"], again["plan"]["unchanged"]) == (1, 199)
    assert again["chunks"] == {"total": 200, "embedded": 1, "reused": 0, "written": 1, "deleted": 1}


def test_unchanged_jsonl_is_not_opened(
    settings: Settings, documents: Path, collection: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(documents / "rows.jsonl", [{"id": "a", "text": "Row."}])
    _age(documents / "rows.jsonl")
    collection(source={"type": "jsonl", "path": str(documents / "rows.jsonl")})
    index(settings, "handbook", embedder=HashEmbedder())
    monkeypatch.setattr(JsonlSource, "read", _forbid)
    assert index(settings, "handbook", embedder=HashEmbedder())["plan"]["unchanged"] == 1


def test_nothing_heavy_is_imported(
    settings: Settings, documents: Path, collection: Callable[..., str], environment: dict[str, str]
) -> None:
    """An unchanged run loads neither torch nor Great Expectations."""
    (documents / "a.md").write_text("Text.")
    collection()
    index(settings, "handbook")
    script = (
        "import sys; from include.cli.main import main; code = main(['index', 'handbook', '--json']);"
        "print(code, sorted(set(sys.modules) & {'torch', 'pandas', 'great_expectations', 'transformers'}))"
    )
    _age(documents / "a.md")
    index(settings, "handbook")
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def _row_versions(settings: Settings, table: str) -> list[tuple[object, ...]]:
    """Physical versions of all rows: a rewritten row has another one, even with the same content."""
    return query(settings, f"select ctid::text, xmin::text from ragworks.{table} order by ctid")

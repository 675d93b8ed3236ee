"""`forget`: what it answers, whom it asks, how it fails."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from include.cli.main import main
from include.store import forgotten
from tests.support import HashEmbedder, export, index, query

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from include.config import Settings


@pytest.fixture
def ragworks(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], documents: Path, collection: Any
) -> Callable[..., Any]:
    """The command line on two pages; returns the exit code, what it prints and what it says on stderr."""
    monkeypatch.setenv("RAGWORKS_DATABASE_URL", settings.database_url or "")
    monkeypatch.setenv("RAGWORKS_HOME", str(settings.home))
    monkeypatch.setenv("RAGWORKS_COLLECTIONS_DIR", str(settings.collections_dir))
    (documents / "jane.md").write_text("Jane lives in the old mill.")
    (documents / "mill.md").write_text("The mill was built long ago.")
    collection()

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_json(ragworks: Callable[..., Any], settings: Settings, documents: Path) -> None:
    (documents / "copy.md").write_text("Jane lives in the old mill.")
    index(settings, "handbook", embedder=HashEmbedder())
    code, out, _ = ragworks("forget", "handbook", "jane.md", "--reason", "asked for", "--json")
    answer = json.loads(out)
    assert (code, list(answer)) == (
        0, ["collection", "document", "known", "erased", "shared_with", "models", "not_vacuumed", "seconds"],
    )  # fmt: skip
    assert (answer["collection"], answer["document"], answer["known"]) == ("handbook", "jane.md", True)
    assert (answer["shared_with"], answer["models"], answer["not_vacuumed"]) == (["copy.md"], [], [])
    assert answer["erased"].items() >= {"chunks_1": 1, "document": 1, "generation_document": 1, "source_object": 1}.items()
    assert query(settings, "select reason from ragworks.forgotten") == [("asked for",)]
    assert {row["document"] for row in export(settings, "handbook")} == {"copy.md", "mill.md"}
    assert json.loads(ragworks("forget", "handbook", "jane.md", "--json")[1])["known"] is False
    code, out, _ = ragworks("forget", "handbook", "jane.md", "--undo", "--json")
    assert (code, list(json.loads(out)), json.loads(out)["undone"]) == (
        0, ["collection", "document", "undone", "seconds"], True,
    )  # fmt: skip
    index(settings, "handbook", embedder=HashEmbedder())
    assert {row["document"] for row in export(settings, "handbook")} == {"copy.md", "jane.md", "mill.md"}


def test_a_terminal_is_asked(ragworks: Callable[..., Any], settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    index(settings, "handbook", embedder=HashEmbedder())
    for answer in ("n\n", "\n", ""):
        monkeypatch.setattr(sys, "stdin", _Terminal(answer))
        code, out, err = ragworks("forget", "handbook", "jane.md")
        assert (code, out) == (1, "")
        assert "Erase jane.md from handbook" in err
        assert "nothing was forgotten" in err
    assert query(settings, "select count(*) from ragworks.forgotten") == [(0,)]
    monkeypatch.setattr(sys, "stdin", _Terminal("y\n"))
    code, out, _ = ragworks("forget", "handbook", "jane.md")
    assert code == 0
    assert "1 in chunks_1" in out
    assert "models trained on it: none" in out
    monkeypatch.setattr(sys, "stdin", _Terminal(""))  # would be read as no
    code, out, _ = ragworks("forget", "handbook", "mill.md", "--yes", "--rewrite")
    assert (code, "1 in chunks_1" in out) == (0, True)


def test_before_the_first_run_and_where_there_is_nothing(ragworks: Callable[..., Any], settings: Settings) -> None:
    code, out, _ = ragworks("forget", "handbook", "jane.md")
    assert (code, "nothing of it was in handbook; it is kept out" in out) == (0, True)
    index(settings, "handbook", embedder=HashEmbedder())
    assert {row["document"] for row in export(settings, "handbook")} == {"mill.md"}
    code, out, err = ragworks("forget", "other", "jane.md", "--json")
    assert (code, json.loads(out)["exit_code"]) == (65, 65)
    assert "'other'" in err
    assert ragworks("forget", "handbook", "mill.md", "--undo")[1] == "it was not forgotten: nothing to undo\n"


def test_a_run_that_plans_for_long(ragworks: Callable[..., Any], settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from include.store import collections
    from include.store.pool import open_pool

    index(settings, "handbook", embedder=HashEmbedder())
    monkeypatch.setattr(forgotten, "LOCK_SECONDS", 1)
    with open_pool(settings) as pool, pool.connection() as connection:
        collections.lock_collection_session(connection, 1)
        code, _, err = ragworks("forget", "handbook", "jane.md", "--json")
        assert (code, "Try again" in err) == (75, True)
        assert ragworks("forget", "handbook", "jane.md", "--undo")[0] == 75
        collections.unlock_collection_session(connection, 1)
    assert {row["document"] for row in export(settings, "handbook")} == {"jane.md", "mill.md"}

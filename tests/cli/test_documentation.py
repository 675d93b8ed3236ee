"""Docs that cannot rot: every command and option is documented, every link leads somewhere."""

from __future__ import annotations

import argparse
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING

import psycopg
import pytest
import yaml

from include.cli.main import build_parser
from include.collection_file import (
    Answers,
    AssetSchedule,
    Chunking,
    Collection,
    Embedding,
    FilesSource,
    Generations,
    Guardrails,
    Index,
    JsonlSource,
    Lexical,
    Monitoring,
    NearDuplicates,
    Policies,
    Privacy,
    QueryLog,
    Retrieval,
    SqlSource,
    Training,
    Validation,
    read_collection,
)
from include.config import PROJECT_ROOT, Settings
from include.quality.suites import chunk_rules, document_rules

if TYPE_CHECKING:
    from pathlib import Path

DOCS = PROJECT_ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), PROJECT_ROOT / "README.md", PROJECT_ROOT / "CONTRIBUTING.md"])


def _commands() -> dict[str, argparse.ArgumentParser]:
    (subparsers,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(subparsers.choices)


@pytest.mark.parametrize("command", sorted(_commands()))
def test_every_command_and_option_is_documented(command: str) -> None:
    page = (DOCS / "cli.md").read_text()
    start = page.index(f"\n## `{command}")
    end = page.find("\n## ", start + 1)
    section = page[start:end]
    for action in _commands()[command]._actions:
        for option in action.option_strings:
            if option.startswith("--") and option not in ("--help", "--json", "--verbose"):
                assert option in section, f"{command} {option} is not in docs/cli.md"


def test_no_command_is_documented_that_does_not_exist() -> None:
    headings = re.findall(r"^## `([a-z-]+)", (DOCS / "cli.md").read_text(), flags=re.MULTILINE)
    assert sorted(headings) == sorted(_commands())


SETTINGS = (
    Collection, FilesSource, JsonlSource, SqlSource, Chunking, Embedding, Index, Validation, Generations, NearDuplicates,
    Privacy, Lexical, Retrieval, Answers, Guardrails, QueryLog, Training, Monitoring, Policies, AssetSchedule,
)  # fmt: skip


def test_every_setting_is_documented() -> None:
    page = (DOCS / "collections.md").read_text()
    for model in SETTINGS:
        for field in model.model_fields:
            assert f"`{field}`" in page or f".{field}`" in page, f"{model.__name__}.{field} is not in docs/collections.md"


def test_every_variable_is_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table has what the settings ask the environment for, and nothing that is no longer asked for."""
    asked: list[str] = []
    monkeypatch.setattr("include.config.os", SimpleNamespace(environ=SimpleNamespace(get=asked.append)))
    Settings.from_environment()
    page = (DOCS / "operations.md").read_text()
    start = page.index("\n## Environment variables")
    section = page[start : page.index("\n## ", start + 1)]
    assert sorted(re.findall(r"^\| `(RAGWORKS_\w+)`", section, flags=re.MULTILINE)) == sorted(set(asked))


def test_every_table_is_documented(database_url: str) -> None:
    """Under the data model; a generation's own tables have a number behind their name."""
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "select table_name from information_schema.tables where table_schema = 'ragworks' and table_type = 'BASE TABLE'"
        ).fetchall()
    page = (DOCS / "architecture.md").read_text()
    start = page.index("\n## Data model")
    section = page[start : page.index("\n### ", start)]
    first_cells = re.findall(r"^\| (`.*?) \|", section, flags=re.MULTILINE)
    listed = {name for cell in first_cells for name in re.findall(r"`([a-z_]+)`", cell)}
    assert listed == {str(row[0]) for row in rows}


def test_every_expectation_is_documented() -> None:
    page = (DOCS / "validation.md").read_text()
    for rule in (*document_rules(Validation()), *chunk_rules(max_tokens=1, dimension=1)):
        assert f"`{rule.name}`" in page


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(PROJECT_ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\((?!https?://|mailto:)([^)#\s]+)", text):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(PROJECT_ROOT)))
def test_collection_files_in_the_docs_are_accepted(page: Path, tmp_path: Path) -> None:
    """A complete example (it has a name and a source) must be one that the project takes."""
    for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(), flags=re.DOTALL)):
        loaded = yaml.safe_load(block)
        if isinstance(loaded, dict) and {"name", "source"} <= set(loaded):
            path = tmp_path / f"{number}.yaml"
            path.write_text(block)
            read_collection(path)

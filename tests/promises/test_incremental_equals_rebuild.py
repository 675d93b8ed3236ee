"""Promise 1: after any sequence of source changes the live index equals, row for row, one built from scratch."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from bench.replay import materialize
from tests.support import HashEmbedder, assert_same_index, export, index

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from include.config import Settings

SERIES = "docs-history/diffusers-releases"
WORDS = ("index", "vector", "chunk", "query", "token", "shard", "lease", "plan", "queue", "batch", "score", "recall", "schema")


def test_random_edits(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    collection("incremental", validation={"max_deleted": 1.0})
    collection("scratch", validation={"max_deleted": 1.0})
    rng = random.Random(7)
    for step in range(12):
        _edit(documents, rng)
        index(settings, "incremental", embedder=HashEmbedder())
        if step % 3 == 2:
            index(settings, "scratch", embedder=HashEmbedder(), mode="rebuild")
            assert_same_index(export(settings, "incremental"), export(settings, "scratch"))


def _edit(folder: Path, rng: random.Random) -> None:
    """A few of: add, edit, insert at the top, rename, delete, touch, swap two files."""
    files = sorted(folder.rglob("*.md"))
    for _ in range(4):
        action = rng.choice(["add", "add", "edit", "top", "rename", "delete", "touch"])
        if action == "add" or len(files) < 3:
            path = folder / f"{rng.choice('abc')}/{rng.randrange(10**6)}.md"
            path.parent.mkdir(exist_ok=True)
            path.write_text("\n\n".join(_paragraph(rng) for _ in range(rng.randint(1, 40))))
            files.append(path)
            continue
        path = rng.choice(files)
        if action == "edit":
            paragraphs = path.read_text().split("\n\n")
            paragraphs[rng.randrange(len(paragraphs))] = _paragraph(rng)
            path.write_text("\n\n".join(paragraphs))
        elif action == "top":
            path.write_text(f"# {_paragraph(rng)[:30]}\n\n{path.read_text()}")
        elif action == "rename":
            path.rename(path.with_name(f"{rng.randrange(10**6)}.md"))
            files = sorted(folder.rglob("*.md"))
        elif action == "delete":
            path.unlink()
            files.remove(path)
        else:
            path.touch()


def _paragraph(rng: random.Random) -> str:
    return (" ".join(rng.choices(WORDS, k=rng.randint(5, 60))) + ".").capitalize()


@pytest.mark.parametrize("versions", [3, pytest.param(21, marks=[pytest.mark.thorough, pytest.mark.timeout(3600)])])
def test_diffusers_releases(
    versions: int, settings: Settings, documents: Path, collection: Callable[..., str], shared_data: Path
) -> None:
    """Releases of real documentation, each compared with a rebuild (of three the last); unchanged runs do nothing."""
    for name in ("incremental", "scratch"):
        collection(name, validation={"max_deleted": 1.0})
    for version in range(versions):
        materialize(shared_data / SERIES, f"v{version:02}", documents)
        index(settings, "incremental", embedder=HashEmbedder())
        if versions > 3 or version == 2:  # a rebuild takes most of the time, and what one release leaves wrong stays so
            index(settings, "scratch", embedder=HashEmbedder(), mode="rebuild")
            assert_same_index(export(settings, "incremental"), export(settings, "scratch"))
        again = index(settings, "incremental", embedder=HashEmbedder())
        assert (again["chunks"]["embedded"], again["chunks"]["written"], again["chunks"]["deleted"]) == (0, 0, 0)


@pytest.mark.slow
@pytest.mark.thorough  # as those with a quicker embedder
def test_diffusers_with_the_real_model(
    settings: Settings, documents: Path, collection: Callable[..., str], shared_data: Path
) -> None:
    """Two releases of a part of the documentation with MiniLM: vectors of both ways agree."""
    source = {"type": "files", "path": str(documents), "glob": "**/en/training/[l-t]*.md"}  # of six, one is new, two change
    collection("incremental", source=source)
    collection("scratch", source=source)
    for version in ("v00", "v01"):
        materialize(shared_data / SERIES, version, documents)
        index(settings, "incremental")
    index(settings, "scratch")
    exported = export(settings, "incremental")
    assert len(exported) > 50
    assert_same_index(exported, export(settings, "scratch"))

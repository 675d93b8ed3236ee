"""What a change costs: no more than the chunk texts that the collection did not hold."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest

from bench.replay import materialize
from include.cli.main import main
from include.embedding.embedder import CANARY_TEXTS
from tests.support import HashEmbedder, assert_same_index, export, index, query

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from include.config import Settings

WORDS = [f"{start}{middle}{end}" for start in ("ta", "lo", "mi", "re", "ska", "vu") for middle in ("ra", "ne", "mol", "tis")
         for end in ("", "ven", "dor", "lan", "k")]  # fmt: skip


def _paragraph(rng: random.Random) -> str:
    sentences = [" ".join(rng.choices(WORDS, k=rng.randint(6, 16))).capitalize() + "." for _ in range(rng.randint(3, 8))]
    return " ".join(sentences)


def _pages(documents: Path, number: int) -> None:
    rng = random.Random(3)
    for i in range(number):
        folder = documents / f"part{i % 5}"
        folder.mkdir(exist_ok=True)
        (folder / f"{i}.md").write_text(f"# Page {i}\n\n" + "\n\n".join(_paragraph(rng) for _ in range(6)))


class _Counting(HashEmbedder):
    """Counts documents, not the queries of the quality gate."""

    def embed_query(self, text: str) -> NDArray[np.float32]:
        return HashEmbedder().embed_query(text)


def _embedded(settings: Settings, **options: Any) -> tuple[int, dict[str, Any]]:
    """Texts that the model was asked for, canary strings aside, and the run."""
    embedder = _Counting()
    result = index(settings, "handbook", embedder=embedder, **options)
    canary = len(CANARY_TEXTS) if embedder.texts else 0
    assert len(embedder.texts) - canary == result["chunks"]["embedded"]
    return result["chunks"]["embedded"], result


def test_every_file_renamed(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    collection()
    _pages(documents, 60)
    _embedded(settings)
    before = sorted(row["text"] for row in export(settings, "handbook"))
    where = {path: path.read_text() for path in documents.rglob("*.md")}
    for folder in list(documents.iterdir()):
        folder.rename(folder.with_name(f"moved-{folder.name}"))
    for path in list(documents.rglob("*.md")):
        path.rename(path.with_name(f"new-{path.name}"))
    embedded, result = _embedded(settings)
    assert (embedded, result["plan"]["renamed"], result["plan"]["deleted"]) == (0, 60, 0)
    assert (result["chunks"]["written"], result["chunks"]["deleted"]) == (0, 0)
    assert sorted(row["text"] for row in export(settings, "handbook")) == before
    assert all("moved-" in row["document"] for row in export(settings, "handbook"))
    shutil.rmtree(documents)
    for path, text in where.items():  # and back again
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert _embedded(settings)[1]["plan"]["renamed"] == 60
    collection("scratch")
    index(settings, "scratch", embedder=HashEmbedder())
    assert_same_index(export(settings, "handbook"), export(settings, "scratch"))


def test_a_renamed_file_and_its_old_name_again(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    """The old file comes back with its old stamp while the new one stays: both are documents."""
    collection()
    _pages(documents, 10)
    old, new = documents / "part0" / "0.md", documents / "part0" / "moved.md"
    _embedded(settings)
    shutil.copy2(old, documents.parent / "kept.md")
    old.rename(new)
    assert _embedded(settings)[1]["plan"]["renamed"] == 1
    shutil.copy2(documents.parent / "kept.md", old)
    embedded, result = _embedded(settings)
    assert (embedded, result["plan"]["added"]) == (0, 1)
    new.write_text("# Another\n\nText now.")
    old.unlink()
    _embedded(settings)
    collection("scratch")
    index(settings, "scratch", embedder=HashEmbedder())
    assert_same_index(export(settings, "handbook"), export(settings, "scratch"))


def test_every_file_touched(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    collection()
    _pages(documents, 60)
    _, first = _embedded(settings)
    table = f"chunks_{first['generation']}"
    rows = query(settings, f"select xmin::text, ctid::text from ragworks.{table} order by 2")
    for path in documents.rglob("*.md"):
        os.utime(path, (time.time() - 100, time.time() - 100))
    embedded, result = _embedded(settings)
    assert (embedded, result["chunks"]["written"], result["reads"]) == (0, 0, {"changed": 60})
    assert query(settings, f"select xmin::text, ctid::text from ragworks.{table} order by 2") == rows
    assert _embedded(settings)[1]["reads"] == {}


def test_one_paragraph_edited_in_a_long_document(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    collection()
    rng = random.Random(5)
    paragraphs = [_paragraph(rng) for _ in range(340)]
    page = documents / "long.md"
    page.write_text("# Long\n\n" + "\n\n".join(paragraphs))
    _, first = _embedded(settings)
    assert first["chunks"]["total"] >= 200
    for position in range(5, 340, 34):
        words = paragraphs[position].split()
        words[len(words) // 2] = f"edited{position}"
        paragraphs[position] = " ".join(words)
        page.write_text("# Long\n\n" + "\n\n".join(paragraphs))
        assert 1 <= _embedded(settings)[0] <= 3
    page.write_text("# Long\n\n" + "\n\n".join(["Something new at the very top.", *paragraphs]))
    assert _embedded(settings)[0] <= 3


def test_a_text_that_is_held_anywhere_is_not_embedded(
    settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    collection()
    _pages(documents, 20)
    _embedded(settings)
    shutil.copy(documents / "part0" / "0.md", documents / "copy.md")
    assert _embedded(settings)[0] == 0
    collection(chunking={"max_tokens": 60})
    assert _embedded(settings)[0] > 0
    collection()  # back: the retired generation has every vector
    embedded, result = _embedded(settings)
    assert (embedded, result["reads"]) == (0, {})


@pytest.mark.parametrize("versions", [6, pytest.param(25, marks=[pytest.mark.thorough, pytest.mark.timeout(3600)])])
def test_commit_by_commit(
    versions: int, settings: Settings, documents: Path, collection: Callable[..., str], shared_data: Path
) -> None:
    """Texts embedded over the whole series are exactly those that the collection did not hold at that moment."""
    for name in ("handbook", "scratch"):
        collection(name, source={"type": "files", "path": str(documents), "glob": "**/*.md"}, validation={"max_deleted": 1.0})
    held: set[str] = set()
    for number in range(versions):
        materialize(shared_data / "docs-history" / "diffusers-commits", f"v{number:02}", documents)
        embedded, _ = _embedded(settings)
        rows = export(settings, "handbook")
        texts = {row["text"] for row in rows}
        assert embedded == len(texts - held), f"version {number}"
        assert {row["document"] for row in rows} <= {p.relative_to(documents).as_posix() for p in documents.rglob("*.md")}
        held = texts
        if versions > 6 or number == 5:  # what one commit leaves wrong stays so
            index(settings, "scratch", embedder=HashEmbedder(), mode="rebuild")
            assert_same_index(rows, export(settings, "scratch"))


def test_an_empty_listing_over_a_large_index(
    settings: Settings,
    documents: Path,
    collection: Callable[..., str],
    shared_data: Path,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = documents / "corpus.jsonl"
    with gzip.open(shared_data / "scifact" / "corpus.jsonl.gz") as corpus:
        path.write_bytes(corpus.read())
    # One vector a document is enough here, and quick.
    collection(source={"type": "jsonl", "path": str(path)}, chunking={"max_tokens": 2000})
    _, first = _embedded(settings)
    assert first["plan"]["added"] == 5183
    path.write_text("")
    for key in ("RAGWORKS_DATABASE_URL", "RAGWORKS_HOME", "RAGWORKS_COLLECTIONS_DIR"):
        monkeypatch.setenv(key, environment[key])
    monkeypatch.setattr("include.indexing.context.open_embedder", lambda *_: HashEmbedder())
    capsys.readouterr()
    assert main(["index", "handbook", "--json"]) == 65
    said = json.loads(capsys.readouterr().out)
    assert "would delete 5183 of 5183 documents" in said["error"]
    assert "--allow-deletes" in said["error"]
    assert len({row["document"] for row in export(settings, "handbook")}) == 5183

"""The public contract: commands, JSON keys and exit codes that other software relies on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from include.cli.main import main
from tests.conftest import write_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from include.config import Settings


@pytest.fixture
def ragworks(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], documents: Path, collection: Any
) -> Callable[..., Any]:
    """The command line on a small collection of two files, with the real model; returns what it prints."""
    monkeypatch.setenv("RAGWORKS_DATABASE_URL", settings.database_url or "")
    monkeypatch.setenv("RAGWORKS_HOME", str(settings.home))
    monkeypatch.setenv("RAGWORKS_COLLECTIONS_DIR", str(settings.collections_dir))
    (documents / "animals.md").write_text("# Animals\n\nKangaroos carry their young in a pouch.")
    (documents / "physics.txt").write_text("Light travels at three hundred thousand kilometres a second.")
    collection()

    def call(*arguments: str, lines: bool = False) -> Any:
        capsys.readouterr()
        assert main(arguments) == 0
        out = capsys.readouterr().out
        return [json.loads(line) for line in out.splitlines()] if lines else json.loads(out)

    return call


def test_index(ragworks: Callable[..., Any], documents: Path) -> None:
    plan = ragworks("index", "handbook", "--plan", "--json")
    assert (plan["plan"]["added"], plan["generation"]) == (2, None)
    first = ragworks("index", "handbook", "--json")
    assert set(first) == {
        "collection", "generation", "run", "plan", "chunks", "quarantined", "seconds", "estimate", "reads", "scrubbed"
    }  # fmt: skip
    assert list(first["plan"]) == ["added", "changed", "metadata_only", "renamed", "deleted", "unchanged"]
    assert list(first["chunks"]) == ["total", "embedded", "reused", "written", "deleted"]
    rebuilt = ragworks("index", "handbook", "--rebuild", "--json")
    assert (rebuilt["chunks"]["embedded"], rebuilt["generation"] > first["generation"]) == (2, True)
    (documents / "physics.txt").unlink()
    assert main(["index", "handbook"]) == 65
    assert ragworks("index", "handbook", "--allow-deletes", "--json")["plan"]["deleted"] == 1


def test_reading(ragworks: Callable[..., Any], tmp_path: Path) -> None:
    ragworks("index", "handbook", "--json")
    found = ragworks("search", "handbook", "which animal has a pouch?", "--top-k", "1", "--json")
    assert set(found) == {"results", "passport", "seconds"}
    (hit,) = found["results"]
    assert set(hit) == {"document", "ordinal", "start", "end", "text", "score", "metadata", "scores"}
    assert (hit["document"], hit["metadata"]["headings"]) == ("animals.md", ["Animals"])
    assert {"collection", "generation", "embedder", "mode"} <= set(found["passport"])
    filtered = ragworks("search", "handbook", "pouch", "--filter", '{"type": "text"}', "--mode", "dense", "--json")
    assert [h["document"] for h in filtered["results"]] == ["physics.txt"]
    rows = ragworks("export", "handbook", "--vectors", lines=True)
    assert [list(r) for r in rows] == [["document", "ordinal", "start", "end", "text", "metadata", "embedding"]] * 2
    assert len(rows[0]["embedding"]) == 384
    assert "embedding" not in ragworks("export", "handbook", lines=True)[0]
    write_rows(tmp_path / "q.jsonl", [{"id": "1", "text": "How fast is light?"}, {"id": "2", "text": "unjudged"}])
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n1\tphysics.txt\t1\n")
    files = ("--queries", str(tmp_path / "q.jsonl"), "--qrels", str(tmp_path / "qrels.tsv"))
    scores = ragworks("evaluate", "handbook", *files, "--json")
    assert {"queries", "ndcg@10", "recall@10", "mrr@10", "p50_ms", "p95_ms"} <= scores.keys()
    assert (scores["queries"], scores["ndcg@10"]) == (1, 1.0)


def test_inspecting(ragworks: Callable[..., Any]) -> None:
    run = ragworks("index", "handbook", "--json")["run"]
    (collection,) = ragworks("status", "handbook", "--json")["collections"]
    assert (collection["documents"], collection["chunks"], collection["pending"]) == (2, 2, 0)
    (entry,) = ragworks("runs", "handbook", "--json")["runs"]
    assert (entry["id"], entry["state"], set(entry["seconds"])) == (run, "done", {"plan", "index", "publish"})
    detail = ragworks("runs", "handbook", "--run", str(run), "--json")
    assert [d["uri"] for d in detail["documents"]] == ["animals.md", "physics.txt"]
    assert {r["suite"] for r in detail["validation"]} == {"documents", "chunks"}
    quarantined = {"collection": "handbook", "quarantined": [], "retried": 0, "acknowledged": 0}
    assert ragworks("quarantine", "handbook", "--json") == quarantined


@pytest.mark.parametrize(
    "command", [["status"], ["runs", "handbook"], ["quarantine", "handbook"], ["search", "handbook", "pouch"]]
)
def test_for_people(command: list[str], ragworks: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Without --json the same things come as lines that name them."""
    ragworks("index", "handbook", "--json")
    assert main(command) == 0
    out = capsys.readouterr().out
    assert any(word in out for word in ("handbook", "animals.md", "incremental", "0 in quarantine"))

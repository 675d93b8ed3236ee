"""`models`, `promote`, `rollback-model` as they are typed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from include.cli.main import main
from tests.conftest import write_rows
from tests.registry.conftest import version
from tests.support import HashEmbedder, index

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from include.config import Settings
    from include.store.pool import Pool


@pytest.fixture
def run(
    settings: Settings, handbook: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, Any]]:
    """Runs a command: its exit code, and its JSON, or its lines when ``plain``."""
    del handbook
    monkeypatch.setenv("RAGWORKS_DATABASE_URL", settings.database_url or "")
    monkeypatch.setenv("RAGWORKS_HOME", str(settings.home))
    monkeypatch.setenv("RAGWORKS_COLLECTIONS_DIR", str(settings.collections_dir))
    monkeypatch.setenv("RAGWORKS_ARTIFACTS", settings.artifacts)

    def command(*arguments: str, plain: bool = False) -> tuple[int, Any]:
        capsys.readouterr()
        code = main(arguments if plain else (*arguments, "--json"))
        said = capsys.readouterr()
        return code, said.out + said.err if plain else json.loads(said.out)

    return command


def test_from_the_list_to_work_and_back(
    run: Callable[..., tuple[int, Any]], settings: Settings, pool: Pool, rerankers: list[Path]
) -> None:
    code, found = run("models")
    assert (code, found) == (0, {"environment": "production", "models": []})
    version(settings, pool, "reranker", rerankers[0], key="train_reranker/1")
    version(settings, pool, "reranker", rerankers[1], key="train_reranker/2", state="refused")
    (found,) = run("models", "reranker")[1]["models"]
    assert (found["champion"], found["challenger"], found["mlflow"]) == (None, 1, "in step")
    assert [(v["version"], v["state"], v["reasons"]) for v in found["versions"]] == [
        (2, "refused", ["nDCG@10 is lower by 0.1"]), (1, "accepted", ["it is better"]),
    ]  # fmt: skip
    assert found["versions"][0]["ndcg@10"] == {"champion": None, "challenger": 0.4}
    assert run("models", "--run", "train_reranker/2")[1]["artifact"].startswith("artifacts:models/reranker/handbook/")

    code, refused = run("promote", "reranker", "2")
    assert code == 65
    assert "reranker 2 was not accepted by the gate: nDCG@10 is lower by 0.1" in refused["error"]
    code, promoted = run("promote", "reranker", "1", "--reason", "better")
    assert (code, promoted["changed"], promoted["replaced"]) == (0, True, None)
    assert promoted["verification"]["ok"]
    assert promoted["verification"]["passport"]["reranker"]["model"] == "reranker 1"
    assert run("promote", "reranker", "2", "--unproved")[1]["unproved"] is True
    (found,) = run("models")[1]["models"]
    assert found["champion"] == 2
    assert [(d["version"], d["state"], d["unproved"]) for d in found["deployments"]] == [
        (2, "live", True), (1, "replaced", False),
    ]  # fmt: skip
    assert found["deployments"][1]["reason"] == "better"
    assert found["deployments"][1]["actor"]
    code, back = run("rollback-model", "reranker")
    assert (code, back["version"], back["replaced"]) == (0, 1, 2)
    code, said = run("models", plain=True)
    assert code == 0
    assert "champion" in said
    assert "Deployments: reranker of handbook" in said
    code, said = run("rollback-model", "reranker", plain=True)
    assert "reranker of handbook: version 2 serves instead of version 1" in said


def test_mistakes_are_named(
    run: Callable[..., tuple[int, Any]], settings: Settings, pool: Pool, rerankers: list[Path], tmp_path: Path,
    collection: Callable[..., str],
) -> None:  # fmt: skip
    assert run("promote", "reranker", "1")[1]["error"].startswith("no reranker was registered in production")
    version(settings, pool, "reranker", rerankers[0], key="k1")
    write_rows(tmp_path / "rows.jsonl", [{"id": "1", "text": "Some text about something."}])
    collection("other", source={"type": "jsonl", "path": str(tmp_path / "rows.jsonl")})
    index(settings, "other", embedder=HashEmbedder())
    version(settings, pool, "reranker", rerankers[0], key="k2", name="other")
    code, failed = run("promote", "reranker", "1")
    assert (code, failed["error"]) == (65, "--collection is missing: handbook, other have a reranker. Name one")
    assert run("promote", "reranker", "7", "--collection", "other")[0] == 65
    code, failed = run("rollback-model", "embedder", "--collection", "other")
    assert "no embedder of other was promoted in production" in failed["error"]
    assert run("models", "--run", "nothing")[0] == 65
    with pytest.raises(SystemExit):
        run("promote", "tokenizer", "1")
    assert run("promote", "llm", "1", "--collection", "handbook")[0] == 65

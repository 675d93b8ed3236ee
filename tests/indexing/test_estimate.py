"""What a plan expects, and that it is what the run then does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.cli.inspecting import planned_and_done
from include.indexing import estimate
from include.store import rates, runs
from include.store.pool import open_pool
from tests.conftest import write_rows
from tests.support import HashEmbedder, index, query

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from include.config import Settings

WORDS = [f"{start}{end}" for start in ("al", "be", "ga", "de", "ep") for end in ("pha", "ta", "mma", "lta")]


def _rows(path: Path, number: int, version: int = 0) -> None:
    """Documents of several chunks; every tenth is a copy of another."""
    rows = []
    for i in range(number):
        seed = i if i % 10 else 0
        text = "\n\n".join(
            " ".join(WORDS[(seed * 7 + j * k) % 20] for j in range(40)) + f" {seed} {k} {version}." for k in range(8)
        )
        rows.append({"id": f"{i:05}", "text": text})
    write_rows(path, rows)


def test_a_plan_is_exact_and_changes_nothing(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    collection(source={"type": "jsonl", "path": str(documents / "rows.jsonl")})
    _rows(documents / "rows.jsonl", 60)
    plan = index(settings, "handbook", embedder=HashEmbedder(), mode="plan")
    done = index(settings, "handbook", embedder=HashEmbedder())
    assert plan["estimate"]["exact"]
    assert plan["estimate"]["documents"] == 60
    assert plan["estimate"]["texts"] == done["chunks"]["embedded"] > 100
    assert plan["estimate"]["tokens"] == query(settings, "select tokens from ragworks.run order by id desc limit 1")[0][0]
    again = index(settings, "handbook", embedder=HashEmbedder(), mode="plan")["estimate"]
    assert (again["documents"], again["texts"], again["tokens"], again["seconds"]) == (0, 0, 0, 0.0)


def test_what_is_there_already_is_not_counted(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    collection(source={"type": "jsonl", "path": str(documents / "rows.jsonl")})
    _rows(documents / "rows.jsonl", 30)
    index(settings, "handbook", embedder=HashEmbedder())
    collection(source={"type": "jsonl", "path": str(documents / "rows.jsonl")}, index={"m": 24, "ef_construction": 96})
    plan = index(settings, "handbook", embedder=HashEmbedder(), mode="plan")
    assert (plan["estimate"]["texts"], plan["estimate"]["documents"]) == (0, 30)
    assert plan["estimate"]["reused"] > 50
    rebuild = index(settings, "handbook", embedder=HashEmbedder(), mode="rebuild")
    assert rebuild["estimate"]["texts"] == rebuild["chunks"]["embedded"] > 50


def test_a_part_stands_for_all(
    settings: Settings, documents: Path, collection: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    collection(source={"type": "jsonl", "path": str(documents / "rows.jsonl")})
    _rows(documents / "rows.jsonl", 400)
    monkeypatch.setattr("include.indexing.plan.SAMPLE", 100_000)
    done = index(settings, "handbook", embedder=HashEmbedder())
    assert not done["estimate"]["exact"]
    assert abs(done["estimate"]["texts"] / done["chunks"]["embedded"] - 1) < 0.1


def test_seconds_and_cost(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    source = {"type": "jsonl", "path": str(documents / "rows.jsonl")}
    collection(source=source, embedding={"price_per_million_tokens": 0.13})
    _rows(documents / "rows.jsonl", 30)
    first = index(settings, "handbook", embedder=HashEmbedder(), mode="plan")["estimate"]
    assert first["seconds"] is None  # this machine has not used the model
    assert first["cost"] == round(first["tokens"] * 0.13 / 1e6, 6)
    assert "unknown time" in estimate.describe_estimate(first)
    index(settings, "handbook", embedder=HashEmbedder())
    with open_pool(settings) as pool, pool.connection() as connection:
        assert rates.tokens_per_second(connection, estimate.host(), HashEmbedder.fingerprint)
        rates.save_rate(connection, estimate.host(), HashEmbedder.fingerprint, 1000, 10.0)
    _rows(documents / "rows.jsonl", 30, version=1)
    second = index(settings, "handbook", embedder=HashEmbedder())
    assert second["estimate"]["seconds"] == round(second["estimate"]["tokens"] / 100, 1)
    with open_pool(settings) as pool, pool.connection() as connection:
        run = runs.run_by_id(connection, 1, second["run"])
    assert run is not None
    compared = planned_and_done(run)
    assert compared["texts embedded"][0] == compared["texts embedded"][1]
    assert compared["tokens embedded"][0] == compared["tokens embedded"][1]
    assert compared["cost"][0] == compared["cost"][1] > 0


def test_every_document_says_why(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    path = documents / "rows.jsonl"
    collection(source={"type": "jsonl", "path": str(path)})
    row = {"text": "The same.", "metadata": {"team": "a"}, "acl": ["x"]}
    names = ("metadata", "acl", "both", "text", "gone", "moved", "same")
    rows = [{"id": name, **row, "text": f"The text of {name}."} for name in names]
    write_rows(path, rows)
    index(settings, "handbook", embedder=HashEmbedder())
    by_name = {str(r["id"]): r for r in rows}
    by_name["metadata"] |= {"metadata": {"team": "b"}}
    by_name["acl"] |= {"acl": ["y"]}
    by_name["both"] |= {"metadata": {"team": "b"}, "acl": ["y"]}
    by_name["text"] |= {"text": "Another."}
    by_name["moved"] |= {"id": "elsewhere"}
    write_rows(path, [r for name, r in by_name.items() if name != "gone"] + [{"id": "new", "text": "New."}])
    result = index(settings, "handbook", embedder=HashEmbedder())
    found = query(settings, "select uri, action, reason from ragworks.run_document where run_id = %s", result["run"])
    assert {uri: (action, reason) for uri, action, reason in found} == {
        "metadata": ("metadata_only", "its metadata changed, its content did not"),
        "acl": ("metadata_only", "its access list changed, its content did not"),
        "both": ("metadata_only", "its metadata and its access list changed, its content did not"),
        "text": ("changed", "its content changed"),
        "gone": ("deleted", "no longer in the source"),
        "elsewhere": ("renamed", "moved from moved"),
        "new": ("added", "new in the source"),
    }
    assert (result["chunks"]["embedded"], result["plan"]["unchanged"]) == (2, 1)

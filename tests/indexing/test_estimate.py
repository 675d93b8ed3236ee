"""What a plan expects, and that it is what the run then does."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from include.cli.inspecting import planned_and_done
from include.indexing import estimate
from include.indexing.activate import rollback
from include.store import rates, runs
from include.store.pool import open_pool
from tests.conftest import write_rows
from tests.support import HashEmbedder, index, query, settle

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


def test_a_rebuild_is_planned_before_it_is_paid(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    collection(embedding=PRICED)
    for number in range(6):
        (documents / f"{number}.md").write_text(f"# Page {number}\n\nText number {number}.")
    settle(documents)
    first = index(settings, "handbook", embedder=HashEmbedder())
    embedder = HashEmbedder()
    plan = index(settings, "handbook", embedder=embedder, mode="plan", rebuild=True)
    assert embedder.texts == []
    assert plan["reads"] == {"rebuild": 6}
    reasons = query(settings, "select distinct reason from ragworks.run_document where run_id = %s", plan["run"])
    assert reasons == [("new generation: rebuild",)]
    assert query(settings, "select id, state from ragworks.generation") == [(first["generation"], "live")]
    assert index(settings, "handbook", embedder=HashEmbedder())["chunks"]["embedded"] == 0, "it left nothing behind"
    done = index(settings, "handbook", embedder=HashEmbedder(), mode="rebuild")
    assert plan["estimate"]["texts"] == done["chunks"]["embedded"] == 6
    assert plan["estimate"]["cost"] == done["estimate"]["cost"] > 0


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


PRICED = {"price_per_million_tokens": 100.0}


def _compared(settings: Settings, run: object) -> dict[str, list[object]]:
    with open_pool(settings) as pool, pool.connection() as connection:
        found = runs.run_by_id(connection, 1, int(str(run)))
    assert found is not None
    return planned_and_done(found)


def test_a_change_of_settings_is_planned_with_what_the_live_one_needs(
    settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    """The source changed too: both generations take it in, and a text that both have is embedded once."""
    source = {"type": "jsonl", "path": str(documents / "rows.jsonl")}
    collection(source=source, embedding=PRICED)
    _rows(documents / "rows.jsonl", 30)
    index(settings, "handbook", embedder=HashEmbedder())
    collection(source=source, embedding=PRICED, chunking={"max_tokens": 60})
    _rows(documents / "rows.jsonl", 34, version=1)
    before = query(settings, "select count(*) from ragworks.work_item")
    plan = index(settings, "handbook", embedder=HashEmbedder(), mode="plan")["estimate"]
    assert query(settings, "select count(*) from ragworks.work_item") == before
    done = index(settings, "handbook", embedder=HashEmbedder())
    assert (plan["exact"], plan["documents"]) == (True, 68)
    assert plan["texts"] == done["estimate"]["texts"] == done["chunks"]["embedded"]
    compared = _compared(settings, done["run"])
    for figure in ("texts embedded", "tokens embedded", "cost", "documents added", "documents changed", "documents deleted"):
        assert compared[figure][0] == compared[figure][1], figure
    assert compared["documents added"] == [4, 4]
    assert compared["documents changed"] == [30, 30]


def test_the_cost_is_known_after_a_rollback(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    source = {"type": "jsonl", "path": str(documents / "rows.jsonl")}
    collection(source=source)
    _rows(documents / "rows.jsonl", 10)
    index(settings, "handbook", embedder=HashEmbedder())
    collection(source=source, embedding=PRICED, chunking={"max_tokens": 60})
    index(settings, "handbook", embedder=HashEmbedder())
    with open_pool(settings) as pool:
        rollback(pool, "handbook")
    _rows(documents / "rows.jsonl", 10, version=1)
    done = index(settings, "handbook", embedder=HashEmbedder())
    assert done["note"]
    assert done["estimate"]["cost"] == round(done["estimate"]["tokens"] * 100 / 1e6, 6) > 0
    assert _compared(settings, done["run"])["cost"] == [done["estimate"]["cost"]] * 2


def test_a_key_that_is_used_again_counts_anew(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    """Of a run that was carried out: the plan is new, and so is what was done."""
    source = {"type": "jsonl", "path": str(documents / "rows.jsonl")}
    collection(source=source, embedding=PRICED)
    _rows(documents / "rows.jsonl", 10)
    index(settings, "handbook", embedder=HashEmbedder(), key="k")
    again = index(settings, "handbook", embedder=HashEmbedder(), key="k")
    assert again["chunks"] | {"total": 0} == {"total": 0, "embedded": 0, "reused": 0, "written": 0, "deleted": 0}
    compared = _compared(settings, again["run"])
    assert (compared["texts embedded"], compared["cost"], compared["documents added"]) == ([0, 0], [0.0, 0.0], [0, 0])


def test_what_was_refused_is_not_done(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    class Refusing(HashEmbedder):
        def embed_documents(self, texts, progress=None):  # type: ignore[no-untyped-def]
            if any("poison" in text for text in texts):
                raise ValueError
            return super().embed_documents(texts)

    path = documents / "rows.jsonl"
    collection(source={"type": "jsonl", "path": str(path)})
    write_rows(path, [{"id": f"{n}", "text": f"Text {n}."} for n in range(5)])
    index(settings, "handbook", embedder=Refusing())
    write_rows(
        path,
        [{"id": f"{n}", "text": f"Text {n}."} for n in range(4)]
        + [{"id": "a", "text": "A poison."}, {"id": "b", "text": "B."}],
    )
    done = index(settings, "handbook", embedder=Refusing())
    compared = _compared(settings, done["run"])
    assert (compared["documents added"], compared["documents deleted"]) == ([2, 1], [1, 1])


def test_what_was_embedded_is_paid_although_none_was_expected(
    settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    collection(source={"type": "jsonl", "path": str(documents / "rows.jsonl")}, embedding=PRICED)
    _rows(documents / "rows.jsonl", 5)
    done = index(settings, "handbook", embedder=HashEmbedder())
    nothing = {"documents": 0, "texts": 0, "tokens": 0, "cost": 0.0, "price": 100.0}
    query(settings, "update ragworks.run set estimate = %s::jsonb returning id", json.dumps(nothing))
    tokens = query(settings, "select tokens from ragworks.run")[0][0]
    assert _compared(settings, done["run"])["cost"] == [0.0, round(tokens * 100 / 1e6, 6)]


def test_a_pod_plans_with_the_rate_of_another(settings: Settings) -> None:
    """Its name is its own: no rate was ever kept under it."""
    with open_pool(settings) as pool, pool.connection() as connection:
        assert rates.tokens_per_second(connection, "pod-a", "m") is None
        rates.save_rate(connection, "pod-a", "m", 1000, 10.0)
        rates.save_rate(connection, "pod-b", "other", 1000, 1.0)
        connection.commit()
        assert rates.tokens_per_second(connection, "pod-c", "m") == 100
        rates.save_rate(connection, "pod-c", "m", 3000, 10.0)
        connection.commit()
        assert [rates.tokens_per_second(connection, host, "m") for host in ("pod-a", "pod-c", "pod-d")] == [100, 300, 300]
        for number in range(rates.KEPT + 5):
            rates.save_rate(connection, f"later-{number}", "m", 1000, 1.0)
            connection.commit()
        kept = connection.execute("select embedder, count(*) from ragworks.embedding_rate group by 1 order by 1").fetchall()
        assert kept == [("m", rates.KEPT), ("other", 1)]
        assert rates.tokens_per_second(connection, "pod-a", "m") == 1000


def test_a_document_that_only_another_scrubber_reads_otherwise_says_so(
    settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    collection()
    for name in ("a", "b", "c"):
        (documents / f"{name}.md").write_text(f"Write to {name}@example.org now.")
    settle(documents)
    index(settings, "handbook", embedder=HashEmbedder())
    (documents / "c.md").write_text("Another text of c.")
    os.utime(documents / "c.md", (1_700_000_100, 1_700_000_100))
    collection(privacy={"scrub": ["EMAIL_ADDRESS"]})
    planned = index(settings, "handbook", embedder=HashEmbedder(), mode="plan")
    found = query(settings, "select uri, action, reason from ragworks.run_document where run_id = %s", planned["run"])
    other = "read by another parser or other privacy settings"
    assert sorted(found) == [("a.md", "changed", other), ("b.md", "changed", other), ("c.md", "changed", "its content changed")]


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

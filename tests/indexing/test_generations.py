"""Blue and green: a new generation is built beside the live one, takes over at once, and can be left again."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest

from include.embedding import models
from include.embedding.embedder import CANARY_TEXTS
from include.errors import BadConfiguration, BadData
from include.indexing.activate import activate, rollback
from include.indexing.context import open_context
from include.indexing.embed import index_shard
from include.indexing.plan import plan_run
from include.indexing.publish import publish_run, validate_run
from include.indexing.read import ANALYZED_FROM
from include.retrieval.searcher import Searcher
from include.store import collections, generations, golden
from include.store.golden import GoldenQuery, GoldenSpan
from include.store.pool import open_pool
from tests.conftest import write_rows
from tests.support import HashEmbedder, assert_same_index, export, index, query, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from include.config import Settings

SHORT = {"max_tokens": 24}


class WordEmbedder(HashEmbedder):
    """A bag of hashed words: texts that share words are near each other, so that quality means something."""

    fingerprint = "words:1"
    dimension = 256

    def embed_documents(self, texts: Sequence[str], progress: object = None) -> NDArray[np.float32]:
        self.texts += texts
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split():
                vectors[row, int.from_bytes(hashlib.md5(word.encode()).digest()[:4]) % self.dimension] += 1
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


class LostInPieces(WordEmbedder):
    """Understands whole pages and queries; of small pieces it makes noise, so that smaller chunks are a mistake."""

    def embed_documents(self, texts: Sequence[str], progress: object = None) -> NDArray[np.float32]:
        vectors = super().embed_documents(texts)
        noise = np.random.default_rng(7).normal(size=vectors.shape).astype(np.float32)
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        small = np.array([len(text.split()) < 30 and text not in CANARY_TEXTS for text in texts])
        return np.where(small[:, None], noise, vectors)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        return WordEmbedder().embed_documents([text])[0]


TOPICS = [f"{a} {b}" for a in ("ancient", "modern", "broken", "quiet", "golden") for b in ("bridges", "rivers", "engines",
          "gardens", "letters", "mirrors", "pilots", "sailors", "temples", "wolves")]  # fmt: skip


def _pages(documents: Path, version: int = 0) -> None:
    for number, topic in enumerate(TOPICS):
        body = "\n\n".join(f"Paragraph {i} tells more about {topic} in version {version} of page {number}." for i in range(6))
        (documents / f"{number:02}.md").write_text(f"# All about {topic}\n\n{body}\n")


@pytest.fixture
def live(settings: Settings, documents: Path, collection: Callable[..., str]) -> int:
    """A live collection; its generation."""
    collection()
    _pages(documents)
    settle(documents)
    return int(index(settings, "handbook", embedder=WordEmbedder())["generation"])


def _live(settings: Settings) -> int:
    return int(query(settings, "select id from ragworks.generation where state = 'live'")[0][0])


def test_a_changed_setting_reads_nothing_again_and_reuses_what_it_can(
    live: int, settings: Settings, collection: Callable[..., str]
) -> None:
    collection(index={"m": 24, "ef_construction": 96})
    result = index(settings, "handbook", embedder=WordEmbedder())
    assert (result["reads"], result["chunks"]["embedded"]) == ({}, 0)
    assert result["generation"] != live
    reasons = query(settings, "select distinct reason from ragworks.run_document where run_id = %s", result["run"])
    assert "index.m 16 → 24" in reasons[0][0]


def test_rollback_is_instant_and_the_next_run_respects_it(
    live: int, settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    before = export(settings, "handbook")
    collection(chunking=SHORT)
    built = index(settings, "handbook", embedder=WordEmbedder())["generation"]
    with open_pool(settings) as pool:
        result = rollback(pool, "handbook")
    assert (result["generation"], result["replaced"], result["behind"]) == (live, built, 0)
    assert result["seconds"] < 1
    assert export(settings, "handbook") == before
    (documents / "new.md").write_text("# Something new\n\nIt came after the rollback.")
    after = index(settings, "handbook", embedder=WordEmbedder())
    assert (after["generation"], after["plan"]["added"], after["chunks"]["embedded"]) == (live, 1, 1)
    assert "rolled back" in after["note"]
    assert index(settings, "handbook", embedder=WordEmbedder(), mode="rebuild")["generation"] > built  # a person asks for it


def test_what_was_deleted_does_not_come_back_with_a_rollback(
    live: int, settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    collection(chunking=SHORT)
    index(settings, "handbook", embedder=WordEmbedder())
    (documents / "00.md").unlink()
    (documents / "01.md").write_text("# All about changes\n\nAnother text.")
    index(settings, "handbook", embedder=WordEmbedder())
    with open_pool(settings) as pool:
        assert rollback(pool, "handbook")["behind"] == 1
    shown = {row["document"] for row in export(settings, "handbook")}
    assert "00.md" not in shown
    assert len(shown) == len(TOPICS) - 1
    collection()
    index(settings, "handbook", embedder=WordEmbedder())
    collection("scratch")
    index(settings, "scratch", embedder=WordEmbedder())
    assert_same_index(export(settings, "handbook"), export(settings, "scratch"))


def test_activate_takes_any_complete_generation(live: int, settings: Settings, collection: Callable[..., str]) -> None:
    collection(chunking=SHORT)
    built = index(settings, "handbook", embedder=WordEmbedder())["generation"]
    with open_pool(settings) as pool:
        rollback(pool, "handbook")
        assert activate(pool, "handbook", built)["generation"] == built
        assert activate(pool, "handbook", built)["replaced"] is None  # twice changes nothing
        with pytest.raises(BadData, match="no generation 999"):
            activate(pool, "handbook", 999)
    assert index(settings, "handbook", embedder=WordEmbedder())["chunks"]["embedded"] == 0
    assert _live(settings) == built


def test_a_retried_rollback_does_not_go_forward_again(live: int, settings: Settings, collection: Callable[..., str]) -> None:
    collection(chunking=SHORT)
    index(settings, "handbook", embedder=WordEmbedder())
    asked = query(settings, "select clock_timestamp()")[0][0]
    with open_pool(settings) as pool:
        for _ in range(2):
            assert rollback(pool, "handbook", since=asked)["generation"] == live
        assert rollback(pool, "handbook")["generation"] != live  # asked for once more, it does
        assert activate(pool, "handbook", live)["generation"] == live
        activate(pool, "handbook", live)
    assert index(settings, "handbook", embedder=WordEmbedder())["generation"] == live  # still held


def test_settings_that_changed_lift_the_hold(live: int, settings: Settings, collection: Callable[..., str]) -> None:
    collection(chunking=SHORT)
    built = index(settings, "handbook", embedder=WordEmbedder())["generation"]
    with open_pool(settings) as pool:
        rollback(pool, "handbook")
    collection()
    assert index(settings, "handbook", embedder=WordEmbedder())["generation"] == live
    collection(chunking=SHORT)
    assert index(settings, "handbook", embedder=WordEmbedder())["generation"] > built


def test_nothing_to_go_back_to(live: int, settings: Settings) -> None:
    with open_pool(settings) as pool, pytest.raises(BadData, match="no generation to go back to"):
        rollback(pool, "handbook")


def test_retention(live: int, settings: Settings, collection: Callable[..., str]) -> None:
    for tokens in (20, 24, 28, 32):
        collection(chunking={"max_tokens": tokens}, generations={"keep": 2})
        index(settings, "handbook", embedder=WordEmbedder())
    states = query(settings, "select state from ragworks.generation order by id")
    assert states == [("retired",), ("retired",), ("live",)]
    tables = query(settings, "select count(*) from pg_tables where schemaname = 'ragworks' and tablename ~ '^chunks_'")
    assert tables == [(3,)]


@pytest.mark.parametrize("lost", ["folder", "weights", "edited", "endpoint"])
def test_no_way_back_to_a_model_that_is_gone(
    lost: str, settings: Settings, documents: Path, collection: Callable[..., str], tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(models.find_model("all-MiniLM-L6-v2"), model)
    collection(embedding={"model": str(model)})
    (documents / "a.md").write_text("# A page\n\nWith a text of its own.")
    settle(documents)
    kept = int(index(settings, "handbook")["generation"])
    collection()
    built = int(index(settings, "handbook", embedder=WordEmbedder())["generation"])
    with open_pool(settings) as pool:
        started = time.monotonic()
        assert rollback(pool, "handbook", settings=settings)["generation"] == kept
        assert time.monotonic() - started < 5  # a second on an idle machine; loading the model takes longer
        activate(pool, "handbook", built)
        if lost == "folder":
            model.rename(tmp_path / "elsewhere")
            models.find_model.cache_clear()
        elif lost == "weights":
            (model / "model.safetensors").unlink()
        elif lost == "edited":
            (model / "config.json").write_text((model / "config.json").read_text() + " ")
            models.fingerprint.cache_clear()
        else:
            changed = "update ragworks.generation set spec = jsonb_set(spec, '{embedding}', spec -> 'embedding' || %s::jsonb)"
            endpoint = json.dumps({"backend": "openai", "base_url": "http://127.0.0.1:9/v1"})
            query(settings, f"{changed} where id = %s returning id", endpoint, kept)
        for back in (
            lambda: rollback(pool, "handbook", settings=settings),
            lambda: activate(pool, "handbook", kept, settings=settings),
        ):
            with pytest.raises(BadConfiguration, match=rf"generation {kept} cannot be asked: .*nothing was changed.*--force"):
                back()
        assert _live(settings) == built
        assert rollback(pool, "handbook")["generation"] == kept  # --force


def test_a_worse_generation_stays_out(live: int, settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    before = export(settings, "handbook")
    collection(chunking=SHORT)
    with pytest.raises(BadData, match="is worse than the live one"):
        index(settings, "handbook", embedder=LostInPieces())
    assert _live(settings) == live
    assert export(settings, "handbook") == before
    state, gate = query(settings, "select state, gate from ragworks.generation order by id desc limit 1")[0]
    assert state == "failed"
    assert gate["origin"] == "headings"
    assert gate["live"] > 0.9 > gate["built"]  # words still find some
    (documents / "new.md").write_text("# Urgent news\n\n" + "While the refused settings stand the live index goes on. " * 5)
    again = index(settings, "handbook", embedder=LostInPieces())
    assert (again["generation"], again["plan"]["added"]) == (live, 1)
    assert "was refused" in again["note"]
    refused = query(settings, "select id from ragworks.generation where state = 'failed'")[0][0]
    with open_pool(settings) as pool:
        assert activate(pool, "handbook", refused)["replaced"] == live  # a person takes it all the same
    assert index(settings, "handbook", embedder=LostInPieces())["generation"] == refused


def test_a_worse_generation_stays_out_also_with_a_few_golden_queries(
    live: int, settings: Settings, collection: Callable[..., str]
) -> None:
    """Three questions can be as bad as can be, and nothing is sure of them: headings are asked too."""
    with open_pool(settings) as pool, pool.connection() as connection:
        asked = [GoldenQuery(f"what of {TOPICS[n]}", (GoldenSpan(f"{n:02}.md"),)) for n in range(3)]
        golden.save(connection, collections.collection_id(connection, "handbook"), asked)
    collection(chunking=SHORT)
    with pytest.raises(BadData, match=r"sanity queries made from headings.*ragworks activate handbook \d"):
        index(settings, "handbook", embedder=LostInPieces())
    assert _live(settings) == live
    ((gate,),) = query(settings, "select gate from ragworks.generation where state = 'failed'")
    assert (gate["origin"], gate["queries"], gate["high"]) == ("golden", 3, None)
    assert gate["sanity"]["high"] < 0


def test_the_live_one_keeps_receiving_changes_during_a_build(
    live: int, settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    collection(chunking=SHORT)
    with open_context(settings, "handbook", embedder=WordEmbedder()) as context:
        plan_run(context, "build")
        (documents / "new.md").write_text("# Urgent news\n\nPublished while another generation is built.")
        with open_pool(settings) as pool, pool.connection() as connection:
            connection.execute(  # another process is at work on the new generation
                "select pg_advisory_lock_shared(%s, id::int) from ragworks.generation where state = 'building'",
                (generations.ATTENDED_LOCK,),
            )
            connection.commit()
            result = index(settings, "handbook", embedder=WordEmbedder())
        assert (result["generation"], result["plan"]["added"]) == (live, 1)
        assert "being built by another run" in result["note"]
        assert "new.md" in {row["document"] for row in export(settings, "handbook")}
        index_shard(context, "build")
        validate_run(context, "build")
        publish_run(context, "build")
    assert _live(settings) != live
    assert "new.md" in {row["document"] for row in export(settings, "handbook")}


def test_one_run_brings_the_source_to_the_live_one_before_it_builds(
    live: int, settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    collection(chunking=SHORT)
    (documents / "new.md").write_text("# Urgent news\n\nOf this morning.")
    with open_context(settings, "handbook", embedder=WordEmbedder()) as context:
        plan = plan_run(context, "build")
        assert plan.counts["added"] == 1
        index_shard(context, "build")
        assert _live(settings) == live
        assert "new.md" in {row["document"] for row in export(settings, "handbook")}
        publish_run(context, "build")
    assert _live(settings) != live


def test_every_query_is_answered_by_one_generation(live: int, settings: Settings, collection: Callable[..., str]) -> None:
    """A query loop during the build, the swap and the rollback: no error, no answer from two generations."""
    answers: list[tuple[int, int]] = []
    errors: list[Exception] = []
    done = threading.Event()

    def ask() -> None:
        with open_pool(settings) as pool:
            searcher = Searcher(settings, pool, "handbook", embedder=WordEmbedder())
            while not done.is_set():
                try:
                    hits, passport = searcher.search("ancient bridges", top_k=5)
                    answers.append((passport["generation"], len(hits)))
                except Exception as error:
                    errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        collection(chunking=SHORT)
        built = index(settings, "handbook", embedder=WordEmbedder())["generation"]
        time.sleep(0.5)
        with open_pool(settings) as pool:
            rollback(pool, "handbook")
        time.sleep(0.5)
    finally:
        done.set()
        thread.join()
    assert not errors
    assert {hits for _, hits in answers} == {5}
    order = [generation for generation, _ in answers]
    changes = [order[0], *(b for a, b in pairwise(order) if a != b)]
    assert changes == [live, built, live]


def test_the_planner_knows_of_a_large_load_before_it_plans(
    settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    """Else the first run of a second large collection compares each of its documents with each, for many minutes."""
    write_rows(documents / "rows.jsonl", [{"id": str(i), "text": f"Row {i}."} for i in range(ANALYZED_FROM)])
    collection(source={"type": "jsonl", "path": str(documents / "rows.jsonl")})
    index(settings, "handbook", embedder=HashEmbedder())
    found = query(settings, "select reltuples from pg_class where oid = 'ragworks.document'::regclass")
    assert found == [(float(ANALYZED_FROM),)]

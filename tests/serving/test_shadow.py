"""A challenger answers a sample of live questions beside them: compared, kept as numbers, never shown, never in the way."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import httpx
import pytest

from include.cli.main import main
from include.collection_file import load_collection
from include.retrieval.agreement import agreement, rank_biased_overlap
from include.retrieval.query import Found, Query
from include.serving.logbook import Logbook
from include.serving.metrics import Metrics
from include.serving.shadow import Sampled, Shadow, is_sampled
from include.store import collections, query_log
from include.store.pool import open_pool
from include.store.search import Hit
from tests.serving.conftest import DOCUMENTS, make_key, running, write_collection, write_documents
from tests.support import HashEmbedder, index, query

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from include.config import Settings


def hit(document: str, start: int = 0, end: int = 100) -> Hit:
    return Hit(document, 0, start, end, "", 0.0, {})


@pytest.mark.parametrize(
    ("live", "other", "overlap", "same_first"),
    [
        ("abc", "abc", 1.0, True),
        ("abc", "cba", 1.0, False),
        ("abcd", "abxy", 0.5, True),
        ("ab", "xy", 0.0, False),
        ("", "", 1.0, True),
        ("ab", "", 0.0, False),
        ("ab", "abcd", 0.5, True),
    ],
)
def test_agreement(live: str, other: str, overlap: float, same_first: bool) -> None:
    found = agreement([hit(one) for one in live], [hit(one) for one in other])
    assert (found.overlap, found.same_first) == (overlap, same_first)


def test_passages_that_lie_over_each_other_are_one() -> None:
    live = [hit("a", 0, 100), hit("a", 100, 200)]
    assert agreement(live, [hit("a", 10, 110), hit("a", 110, 180)]).overlap == 1
    assert agreement(live, [hit("a", 190, 290)]).overlap == 0.0
    assert agreement(live, [hit("a", 0, 200), hit("b")]).overlap == 0.5
    assert agreement(live, live, depth=1).depth == 1


def plain_rbo(one: Sequence[int], two: Sequence[int], p: float) -> float:
    """Of lists of one length, as the definition has it."""
    k = len(one)
    shared = [len(set(one[:d]) & set(two[:d])) for d in range(1, k + 1)]
    return (1 - p) / p * sum(x / d * p**d for d, x in enumerate(shared, 1)) + shared[-1] / k * p**k


@pytest.mark.parametrize("p", [0.5, 0.9, 0.98])
def test_rank_biased_overlap(p: float) -> None:
    assert rank_biased_overlap([1, 2, 3], [1, 2, 3], p) == pytest.approx(1)
    assert rank_biased_overlap([1, 2, 3], [4, 5, 6], p) == 0
    assert rank_biased_overlap([1, 2], [1, 2, 3, 4], p) == pytest.approx(1)  # what is not seen is taken to go on so
    for one, two in (([1, 2, 3, 4], [2, 1, 4, 5]), ([1, 2, 3], [3, 9, 1])):
        assert rank_biased_overlap(one, two, p) == pytest.approx(plain_rbo(one, two, p))
        assert rank_biased_overlap(one, two, p) == rank_biased_overlap(two, one, p)
    top, tail = rank_biased_overlap([1, 2, 3, 4], [9, 2, 3, 4], p), rank_biased_overlap([1, 2, 3, 4], [1, 2, 3, 9], p)
    assert top < tail


def test_the_sample_is_a_share() -> None:
    ids = [uuid4() for _ in range(4000)]
    assert not any(is_sampled(one, 0) for one in ids)
    assert all(is_sampled(one, 1) for one in ids)
    assert 0.2 < sum(is_sampled(one, 0.25) for one in ids) / 4000 < 0.3


@pytest.fixture
def own(settings: Settings, tmp_path: Path) -> Settings:
    write_documents(tmp_path / "documents.db", DOCUMENTS)
    write_collection(settings, "handbook", tmp_path / "documents.db", monitoring={"shadow": 1})
    index(settings, "handbook", embedder=HashEmbedder())
    return settings


def challenger(settings: Settings, family: str, artifact: str, state: str = "evaluated") -> int:
    (row,) = query(
        settings,
        "insert into ragworks.model_run (run_key, family, collection_id, arguments, work_hash, state, base, base_fingerprint,"
        " code_version, artifact) values (%s, %s, 1, '{}', 'w', %s, 'b', 'f', 'c', %s) returning id",
        f"key {uuid4()}", family, state, artifact,
    )  # fmt: skip
    return int(row[0])


def candidate(settings: Settings, training: int) -> None:
    """An index on trial: a copy of the live one, complete, under the training's key."""
    from psycopg import sql

    with open_pool(settings) as pool, pool.connection() as connection:
        connection.execute(
            "insert into ragworks.generation (collection_id, spec, spec_hash, embedder, dimension, storage, packed, state,"
            " metrics) select collection_id, spec, spec_hash || 'x', embedder, dimension, storage, packed, 'candidate',"
            "  jsonb_build_object('run_key', (select run_key from ragworks.model_run where id = %s), 'complete', true)"
            " from ragworks.generation where state = 'live'",
            (training,),
        )
        for table in ("chunks", "spans", "terms", "staged"):
            names = {"new": sql.Identifier("ragworks", f"{table}_2"), "old": sql.Identifier("ragworks", f"{table}_1")}
            connection.execute(sql.SQL("create table {new} (like {old} including all)").format(**names))
            connection.execute(sql.SQL("insert into {new} select * from {old}").format(**names))
        connection.execute(
            "insert into ragworks.generation_document select (jsonb_populate_record(g, '{\"generation_id\": 2}')).*"
            " from ragworks.generation_document g where generation_id = 1"
        )


def ask(url: str, key: str, text: str, **more: Any) -> dict[str, Any]:
    login = {"Authorization": f"Bearer {key}"}
    body = {"collection": "handbook", "query": text, **more}
    reply = httpx.post(f"{url}/v1/search", json=body, headers=login, timeout=60)
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def test_challengers_answer_unseen(own: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one nothing is kept; an index on trial is compared; a reranker that cannot be opened fails alone."""
    monkeypatch.setattr("include.serving.challengers.LOOK_SECONDS", 0.0)
    key = make_key(own, "user")
    with running(own) as (url, service):
        before = ask(url, key, "kangaroo pouch", top_k=2)
        assert service.shadow.flush()
        assert query(own, "select count(*) from ragworks.shadow") == [(0,)]
        proved = challenger(own, "embedder", "artifacts:models/embedder/x")
        candidate(own, proved)
        after = ask(url, key, "kangaroo pouch", top_k=2)
        assert service.shadow.flush()
        assert [one["document"] for one in after["results"]] == [one["document"] for one in before["results"]]
        assert after["passport"]["generation"] == before["passport"]["generation"] == 1
        rows = query(own, "select query_id, model_run_id, depth, overlap, rbo, same_first, error from ragworks.shadow")
        assert rows == [(UUID(after["id"]), proved, 2, 1.0, pytest.approx(1.0), True, None)]
        (spent,) = query(own, "select live_seconds > 0 and seconds > 0 from ragworks.shadow")
        assert spent == (True,)
        broken = challenger(own, "reranker", "artifacts:models/reranker/nowhere", "accepted")
        assert ask(url, key, "light", top_k=2)["results"]
        assert ask(url, key, "light", top_k=2, mode="lexical")["results"]
        assert service.shadow.flush()
        failed = query(own, "select overlap, error from ragworks.shadow where model_run_id = %s", broken)
        assert {row[0] for row in failed} == {None}
        assert len(failed) == 2
        assert b'ragworks_shadow_questions_total{state="failed"} 2.0' in service.metrics.text()
        query(own, "update ragworks.model_run set state = 'refused' where id = %s returning 1", broken)
    monkeypatch.setenv("RAGWORKS_DATABASE_URL", own.database_url or "")
    monkeypatch.setenv("RAGWORKS_HOME", str(own.home))
    monkeypatch.setenv("RAGWORKS_COLLECTIONS_DIR", str(own.collections_dir))
    assert main(["shadow", "handbook", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(one["training"], one["questions"], one["failed"]) for one in told["challengers"]] == [
        (broken, 2, 2),
        (proved, 1, 0),
    ]
    assert main(["shadow", "handbook"]) == 0
    assert "1.000" in capsys.readouterr().out
    with open_pool(own) as pool, pool.connection() as connection:
        settings = load_collection(own, "handbook").query_log
        connection.execute("update ragworks.query_log set created_at = now() - interval '400 days'")
        query_log.expire(connection, collections.collection_id(connection, "handbook"), settings)
        assert connection.execute("select count(*) from ragworks.shadow").fetchone() == (0,)


class Slow:
    """A challenger that never answers while it is held."""

    def __init__(self) -> None:
        self.held = threading.Event()

    def of(self, collection: int) -> None:
        self.held.wait(20)


def test_what_does_not_fit_is_dropped_and_nobody_waits(own: Settings) -> None:
    slow, metrics = Slow(), Metrics()
    with open_pool(own) as pool:
        logbook = Logbook(pool, metrics)
        shadow = Shadow(pool, slow, logbook, metrics, capacity=2)  # type: ignore[arg-type]  # what it needs of it
        collection = load_collection(own, "handbook")
        started = time.monotonic()
        for _ in range(20):
            shadow.offer(Sampled(uuid4(), 1, collection, Query("q"), Found([], {})))
        assert time.monotonic() - started < 1
        slow.held.set()
        shadow.close()
        assert not shadow.offer(Sampled(uuid4(), 1, collection, Query("q"), Found([], {})))
        logbook.close()
    dropped = metrics.shadow.labels("dropped")._value.get()
    assert dropped >= 18

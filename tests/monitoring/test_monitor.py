"""The monitor on a real query log: what it measures, when it speaks, and that a second one changes nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from include.cli.main import main
from include.collection_file import QueryLog
from include.monitoring.run import MonitorResult, monitor
from include.progress import Silent
from include.store import collections, decisions, feedback, generations, monitored, query_log
from include.store.feedback import Feedback
from include.store.pool import open_pool
from include.store.query_log import LoggedQuery, save_queries
from tests.support import HashEmbedder, index, query

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from include.config import Settings
    from include.store.pool import Pool

START = datetime(2024, 1, 1, tzinfo=UTC)
WEEK = timedelta(days=7)
SIZE = 240
MONITORING: dict[str, Any] = {"window_hours": 84, "minimum_labels": 20, "policy": {"reranker": "approve"}}


@pytest.fixture
def pool(settings: Settings, documents: Path, collection: Callable[..., str]) -> Any:
    """A collection whose documents are about as near to each question."""
    for number in range(12):
        (documents / f"{number}.md").write_text(f"Page {number}.")
    collection(monitoring=MONITORING)
    index(settings, "handbook", embedder=HashEmbedder())
    with open_pool(settings) as opened:
        yield opened


def asked(pool: Pool, week: int, *, topic: float = 0.0, down: float = 0.05, size: int = SIZE) -> None:
    """A week of questions: vectors about a topic, half of them judged."""
    draw = np.random.default_rng(week)
    vectors = draw.standard_normal((size, HashEmbedder.dimension)).astype(np.float32) + 0.5
    vectors[:, :8] += topic
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    with pool.connection() as connection:
        key = collections.collection_id(connection, "handbook")
        rows = [
            LoggedQuery(
                key, "search", 1, f"question {n} of week {week}", vectors[n],
                passport={"embedder": {"model": "hash", "fingerprint": HashEmbedder.fingerprint}},
                results=[{"document": "1.md", "ordinal": 0, "score": 1.0}, {"document": "2.md", "ordinal": 0, "score": 0.6}],
                seconds={"embed": 0.01, "search": 0.02},
                created_at=START + week * WEEK + (n + 0.5) / size * WEEK,
            )
            for n in range(size)
        ]  # fmt: skip
        save_queries(connection, rows)
        for number, row in enumerate(rows[::2]):
            feedback.save_feedback(connection, Feedback(row.id, -1 if (number * 0.618) % 1 < down else 1))


def look(settings: Settings, pool: Pool, weeks: int) -> MonitorResult:
    """Monitor at the end of a week."""
    return monitor(settings, pool, "handbook", at=START + weeks * WEEK, run_key=f"test/{weeks}", progress=Silent())


def counts(settings: Settings) -> list[tuple[Any, ...]]:
    """Rows of the three tables."""
    return query(
        settings,
        "select (select count(*) from ragworks.signal), (select count(*) from ragworks.breach),"
        " (select count(*) from ragworks.decision)",
    )


def test_from_questions_to_a_decision(settings: Settings, pool: Pool, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = look(settings, pool, 1)
    assert (nothing.at, nothing.decision) == (None, None)
    for week in range(2):
        asked(pool, week)
    usual = look(settings, pool, 2)
    assert (usual.windows, usual.breaches, usual.decision and usual.decision.action) == (4, (), "nothing")
    states = {s.name: (s.state, s.sample) for s in usual.signals}
    assert states["query_drift"] == ("within", SIZE // 2)
    assert states["thumbs_down"] == ("within", SIZE // 4)
    assert states["abstention"] == ("too_few", 0)
    margin = next(s for s in usual.signals if s.name == "score_margin")
    assert (margin.value, margin.reference["sample"]) == (pytest.approx(0.4), SIZE)

    asked(pool, 2, topic=1.0)
    drifted = look(settings, pool, 3)
    assert {b.signal for b in drifted.opened} >= {"query_drift", "embedding_drift"}
    assert "thumbs_down" not in {b.signal for b in drifted.breaches}
    before = counts(settings)
    again = look(settings, pool, 3)
    assert (again.windows, again.decision_id, counts(settings)) == (0, drifted.decision_id, before)

    asked(pool, 3)
    back = look(settings, pool, 4)
    assert (back.breaches, back.decision and back.decision.action) == ((), "nothing")
    with pool.connection() as connection:
        outcome = decisions.by_id(connection, drifted.decision_id or 0)
        assert outcome is not None
        assert set(outcome.outcome["effect"]) >= {"query_drift"} if outcome.outcome else False

    asked(pool, 4, down=0.6)
    label(pool, 30)
    unhappy = look(settings, pool, 5)
    assert {b.signal for b in unhappy.breaches} == {"thumbs_down"}
    assert unhappy.decision is not None
    assert (unhappy.decision.action, unhappy.decision.family, unhappy.decision.state) == ("train", "reranker", "waiting")
    asked(pool, 5, down=0.6)
    waiting = look(settings, pool, 6)
    assert waiting.decision is not None
    assert (waiting.decision.action, "one thing at a time" in str(waiting.decision.refused)) == ("notify", True)
    by_command(settings, unhappy.decision_id or 0, capsys)


def label(pool: Pool, count: int, week: int = 4) -> None:
    """What a reviewer accepted."""
    with pool.connection() as connection:
        connection.execute(
            "update ragworks.feedback set state = 'accepted', document = '1.md', created_at = %s where id in"
            " (select id from ragworks.feedback where thumb = 1 limit %s)",
            (START + week * WEEK, count),
        )


def by_command(settings: Settings, decision: int, capsys: pytest.CaptureFixture[str]) -> None:
    """What a person sees, and says."""

    def command(*arguments: str) -> dict[str, Any]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAGWORKS_DATABASE_URL", settings.database_url or "")
            patch.setenv("RAGWORKS_HOME", str(settings.home))
            patch.setenv("RAGWORKS_COLLECTIONS_DIR", str(settings.collections_dir))
            capsys.readouterr()
            code = main(["monitor", "handbook", *arguments, "--json"])
        return {"code": code, **json.loads(capsys.readouterr().out)}

    assert command("--history")["decisions"][1]["id"] == decision
    chain = command("--chain", str(decision))
    assert (chain["decision"]["state"], chain["breaches"][0]["signal"]) == ("waiting", "thumbs_down")
    assert (len(chain["signals"]), chain["after"][0]["state"]) == (2, "beyond")
    assert command("--approve", str(decision))["state"] == "approved"
    assert command("--refuse", str(decision))["code"] == 65
    with open_pool(settings) as pool, pool.connection() as connection:
        assert [c.action for c in decisions.claim(connection, worker="one")] == ["train"]
        assert decisions.claim(connection, worker="two") == []
        assert len(decisions.claim(connection, worker="two", lease=-1)) == 1  # its event was lost
        assert decisions.start(connection, decision, "run/1")
        assert not decisions.start(connection, decision, "run/2")
        assert decisions.finish(connection, decision, {"state": "accepted"})
    assert command("--at", "2024-02-12")["windows"] == 0
    names = {one["signal"] for one in command("--calibrate", "--at", "2024-02-12")["thresholds"]}
    assert names >= {"query_drift", "thumbs_down", "score_margin"}
    assert command("--accept", "7", "--at", "2024-02-12")["start"].startswith("2024-02-05")
    assert command("--chain", "999")["code"] == 65


def test_two_at_once(settings: Settings, pool: Pool) -> None:
    """One measures and has something trained, the other finds that; so does one that comes when the first died in between."""
    for week in range(3):
        asked(pool, week, down=0.6 if week == 2 else 0.05)
    label(pool, 30, week=2)
    found: list[MonitorResult] = []
    threads = [Thread(target=lambda: found.append(look(settings, pool, 3))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.windows for one in found) == [0, 6]
    assert len({one.decision_id for one in found}) == 1
    for one in found:
        assert one.decision
        assert (one.decision.action, one.decision.family, one.decision.state) == ("train", "reranker", "waiting")
    doubled = query(settings, "select name from ragworks.signal group by name, window_end having count(*) > 1")
    assert (doubled, counts(settings)[0][2]) == ([], 1)

    other = look(settings.model_copy(update={"environment": "staging"}), pool, 3)  # measured already, not decided there
    assert other.decision
    assert (other.windows, other.decision.action, counts(settings)[0][2]) == (0, "train", 2)
    with pool.connection() as connection:
        connection.execute("delete from ragworks.decision")  # the first died before it decided
        key = collections.collection_id(connection, "handbook")
        report = decisions.save(
            connection, environment="production", collection=key, at=datetime.now(UTC), action="train", family="embedder",
            mode="approve", state="waiting", reason="a report", evidence={}, breaches=(), monitor_key="m",
        )  # fmt: skip
    again = look(settings, pool, 3)  # and a report came before the second: it is open, which is said and kept
    assert again.decision
    assert (again.windows, again.decision.action, counts(settings)[0][2]) == (0, "notify", 2)
    assert f"decision {report} (train embedder) is waiting" in again.decision.reason
    assert again.decision_id not in (None, report)
    assert look(settings, pool, 3).decision_id == again.decision_id


def test_vectors_that_are_no_longer_kept(settings: Settings, pool: Pool) -> None:
    """Retention takes the reference's vectors: what is asked is compared with the oldest that are there, how well with all."""
    now = datetime.now(UTC)
    with pool.connection() as connection:  # of a large index a part is drawn, the same each time
        live = generations.live_generation(connection, collections.collection_id(connection, "handbook"))
        assert live
        drawn = [monitored.chunk_vectors(connection, live, now - WEEK, now + WEEK, limit=limit) for limit in (1, 1, 50)]
    assert [(len(new), len(others), count) for new, others, count in drawn] == [(1, 0, 12), (1, 0, 12), (12, 0, 12)]
    assert (drawn[0][0] == drawn[1][0]).all()
    for week in range(4):
        asked(pool, week)
    look(settings, pool, 2)
    with pool.connection() as connection:
        key = collections.collection_id(connection, "handbook")
        days = (now - START - 2 * WEEK).days
        query_log.expire(connection, key, QueryLog(keep_texts_days=days, keep_days=36_500))
    found = {s.name: s for s in look(settings, pool, 4).signals}
    assert found["query_drift"].state == "within"
    assert found["query_drift"].reference["start"] > (START + WEEK).isoformat()
    assert found["score_margin"].reference["start"] == START.isoformat()

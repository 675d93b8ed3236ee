"""From a row to an event to a training: each once, whatever is lost or doubled on the way."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.module_loading import import_string

from include.monitoring.carrying import TakenAlready, begin_training, end_training
from include.store import alerts, awaited, decisions
from include.store.pool import open_pool
from ragworks.triggers.news import AlertTrigger, FeedbackTrigger
from ragworks.triggers.retrain import RetrainTrigger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.config import Settings
    from include.store.pool import Pool

QUIET = 0.7  # in which a trigger that repeats itself would


@pytest.fixture
def pool(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    """Our tables with one collection; Airflow has no connections, so the environment says where they are."""
    monkeypatch.setenv("RAGWORKS_DATABASE_URL", settings.database_url or "")
    monkeypatch.setenv("RAGWORKS_HOME", str(settings.home))
    with open_pool(settings) as pool:
        with pool.connection() as connection:
            connection.execute("insert into ragworks.collection (name) values ('handbook')")
        yield pool


def decided(pool: Pool, day: int, *, state: str = "approved", family: str = "reranker") -> int:
    with pool.connection() as connection:
        found = decisions.save(
            connection, environment="production", collection=1, at=datetime(2026, 11, day, tzinfo=UTC), action="train",
            family=family, mode="auto", state=state, reason="quality is lost", evidence={}, breaches=(), monitor_key="m",
        )  # fmt: skip
    assert found is not None
    return found


def state(pool: Pool, decision: int) -> tuple[str, str | None, Any]:
    with pool.connection() as connection:
        row = decisions.by_id(connection, decision)
    assert row is not None
    return row.state, row.run_key, row.outcome


def events(*triggers: Any, seconds: float = QUIET) -> list[dict[str, Any]]:
    """What triggers fire within some time, each made again as a triggerer makes it."""
    found: list[dict[str, Any]] = []

    async def follow(trigger: Any) -> None:
        path, kwargs = trigger.serialize()
        async for event in import_string(path)(**kwargs).run():
            found.append(dict(event.payload))

    async def together() -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*(follow(trigger) for trigger in triggers)), seconds)

    asyncio.run(together())
    return found


def test_a_decision_is_one_event_and_one_training(pool: Pool) -> None:
    retrain = RetrainTrigger("reranker", 0.05)
    assert retrain.serialize() == ("ragworks.triggers.retrain.RetrainTrigger", {"family": "reranker", "seconds": 0.05})
    first = decided(pool, 1)
    payload = {"decision": first, "collection": "handbook", "family": "reranker"}
    assert events(RetrainTrigger("llm", 0.05), retrain, retrain, seconds=3) == [payload]  # two triggerers, one event

    # The event is lost: the claim is given out again, once its time is over.
    assert events(retrain) == []
    with pool.connection() as connection:
        connection.execute("update ragworks.decision set claimed_at = now() - interval '6 minutes'")
        assert awaited.trainings_asked_for(connection, "staging", "reranker") == 0
    assert events(retrain, seconds=3) == [payload]

    # The event is doubled: two runs, of which one trains; a retry of it finds its decision again.
    assert begin_training(pool, "production", "embedder", "handbook", "train_embedder/x") is None
    assert begin_training(pool, "production", "reranker", "handbook", "train_reranker/a", [first]).id == first  # type: ignore[union-attr]
    assert begin_training(pool, "production", "reranker", "handbook", "train_reranker/a", [first]).id == first  # type: ignore[union-attr]
    with pytest.raises(TakenAlready, match=f"decision {first} is started, carried out by train_reranker/a"):
        begin_training(pool, "production", "reranker", "handbook", "train_reranker/b", [first])
    assert begin_training(pool, "production", "reranker", "handbook", "train_reranker/form") is None  # a person may train
    assert events(retrain) == []

    # It is over, and the event comes late.
    end_training(pool, "train_reranker/a", ["train"])
    assert state(pool, first) == ("done", "train_reranker/a", {"state": "failed", "failed": ["train"]})
    with pytest.raises(TakenAlready, match=f"decision {first} is done"):
        begin_training(pool, "production", "reranker", "handbook", "train_reranker/c", [first])
    end_training(pool, "train_reranker/a", [])
    assert state(pool, first)[2]["state"] == "failed"  # the first word stays

    # What waits for a person is no event; what a person approved is.
    second = decided(pool, 2, state="waiting")
    assert events(retrain) == []
    with pool.connection() as connection:
        assert decisions.answer(connection, second, approved=True, actor="ada")
        assert not decisions.answer(connection, second, approved=False, actor="bob")
    assert [event["decision"] for event in events(retrain, seconds=3)] == [second]


def test_a_training_that_dies_is_noted_as_failed(pool: Pool) -> None:
    decision = decided(pool, 1)
    begin_training(pool, "production", "reranker", "handbook", "train_reranker/k", [decision])
    with pool.connection() as connection:
        connection.execute(
            "insert into ragworks.model_run (run_key, family, collection_id, arguments, work_hash, state, base,"
            " base_fingerprint, code_version) values ('train_reranker/k', 'reranker', 1, '{}', 'w', 'training', 'b', 'f', 'c')"
        )
    outcome = end_training(pool, "train_reranker/k", ["train"])
    assert (outcome["state"], outcome["error"], outcome["promoted"]) == ("failed", "its run failed in train", False)
    with pool.connection() as connection:
        assert connection.execute("select state, finished_at is not null from ragworks.model_run").fetchall() == [
            ("failed", True)
        ]
    assert state(pool, decision)[0] == "done"


def test_a_run_that_is_gone_holds_nothing_up(pool: Pool, settings: Settings) -> None:
    """Its decision and its training are over; one that goes on, or that a command line carries out, is left alone."""
    from types import SimpleNamespace

    from ragworks.operators.monitoring import MeasureOperator

    context: Any = {"dag_run": SimpleNamespace(dag_id="monitor_handbook", run_id="now"), "ti": SimpleNamespace()}
    measure = MeasureOperator(task_id="measure", collection="handbook")
    for day, alive, run_key in ((1, 1, "train_reranker/a"), (2, 0, "typed"), (3, 0, "train_reranker/b")):
        decision = decided(pool, day)
        begin_training(pool, "production", "reranker", "handbook", run_key, [decision])
        with pool.connection() as connection:
            connection.execute(
                "insert into ragworks.model_run (run_key, family, collection_id, arguments, work_hash, state, base,"
                " base_fingerprint, code_version) values (%s, 'reranker', 1, '{}', 'w', 'training', 'b', 'f', 'c')",
                (run_key,),
            )
        # Of Airflow's runs, whether this one goes on; the monitor that decided is over.
        context["ti"].get_dr_count = lambda dag_id, run_ids, states, n=alive: n if dag_id == "train_reranker" else 0
        measure._close_what_is_lost(context, settings, pool, 1)
        gone = run_key == "train_reranker/b"
        assert (state(pool, decision)[0] == "done") is gone
        with pool.connection() as connection:
            rows = connection.execute(
                "select state, finished_at is null from ragworks.model_run where run_key = %s", (run_key,)
            )
            assert rows.fetchone() == (("failed", False) if gone else ("training", True))
        end_training(pool, run_key, [])


def test_reports_and_feedback_wake_the_monitor(pool: Pool) -> None:
    from include.monitoring.alerts import parse

    report = AlertTrigger("handbook", 0.05)
    found = parse("plain", {"key": "1", "title": "bad answers", "collection": "handbook"})
    with pool.connection() as connection:
        assert alerts.save(connection, "production", {"handbook": 1}, found) == 1
        assert alerts.save(connection, "production", {"handbook": 1}, found) == 0  # delivered twice
    assert events(report, report, AlertTrigger("other", 0.05), seconds=3) == [{"collection": "handbook", "reports": 1}]
    with pool.connection() as connection:  # its event was lost
        connection.execute("update ragworks.alert set announced_at = now() - interval '6 minutes'")
    assert len(events(report, seconds=3)) == 1
    with pool.connection() as connection:
        connection.execute("update ragworks.alert set announced_at = now() - interval '6 minutes'")
        [unseen] = alerts.unseen(connection, "production", 1)
        alerts.see(connection, unseen.id, "monitor_handbook/1", "looked at")
    assert events(report) == []

    thumbs = FeedbackTrigger("handbook", 2, 24, 0.05)
    with pool.connection() as connection:
        connection.execute(
            "with asked as (insert into ragworks.query_log (collection_id, kind) select 1, 'search' from generate_series(1, 2)"
            " returning id) insert into ragworks.feedback (query_id, thumb) select id, one from asked, unnest(array[1, -1]) one"
        )
    assert events(thumbs) == []  # the day goes on: a run would measure nothing
    with pool.connection() as connection:
        connection.execute("update ragworks.query_log set created_at = now() - interval '2 days'")
        connection.execute("insert into ragworks.feedback (query_id, thumb) select id, 1 from ragworks.query_log limit 1")
    assert events(thumbs, seconds=2) == [{"collection": "handbook", "judgements": 5}]  # not one a look
    assert events(FeedbackTrigger("handbook", 6, 24, 0.05)) == []


def test_a_database_of_an_older_version_is_no_event_and_is_not_changed(
    before_tables: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAGWORKS_DATABASE_URL", before_tables.database_url or "")
    thumbs = FeedbackTrigger("handbook", 1, 24, 0.05)
    assert events(RetrainTrigger("reranker", 0.05), AlertTrigger("handbook", 0.05), thumbs) == []
    from include.store.pool import open_connection

    with open_connection(before_tables) as connection:
        assert connection.execute("select to_regnamespace('ragworks')").fetchone() == (None,)


@pytest.mark.parametrize(
    ("extras", "conf", "asked"),
    [
        ([{"from_trigger": True, "payload": {"decision": 7, "collection": "handbook", "family": "reranker"}}], {}, [7]),
        ([{"decision": 7, "collection": "handbook"}, {"decision": 7, "collection": "handbook"}], {}, [7, 7]),
        ([{"decision": 7, "collection": "wiki"}], {}, []),  # another collection's, which gets a run of its own
        ([{"decision": 7, "collection": "handbook"}, {"collection": "handbook"}], {}, []),  # somebody orders it besides
        ([{}], {}, []),
        ([], {"decisions": [7]}, [7]),  # the run that was made for another collection
        ([], None, []),
    ],
)
def test_which_decisions_a_run_was_woken_for(extras: list[dict[str, Any]], conf: Any, asked: list[int]) -> None:
    from types import SimpleNamespace

    from ragworks.operators.training import asked_decisions

    events = {"ragworks.reranker.retrain": [SimpleNamespace(extra=extra) for extra in extras]}
    context: Any = {"dag_run": SimpleNamespace(conf=conf), "triggering_asset_events": events}
    assert asked_decisions(context, "handbook") == asked

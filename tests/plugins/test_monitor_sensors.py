"""Sensors over a real database: what is asked, how it waits, what a restart of the triggerer keeps, what a time-out says."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSensorTimeout, TaskDeferred
from airflow.sdk.module_loading import import_string

from include.config import Settings
from include.store.pool import open_pool
from ragworks.sensors import (
    ChampionChangedSensor,
    DriftSensor,
    IndexFreshSensor,
    NewFeedbackSensor,
    QualitySensor,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.store.pool import Connection
    from ragworks.triggers.condition import ConditionTrigger

START = datetime(2026, 11, 1, tzinfo=UTC)
SINCE = START.isoformat()


@pytest.fixture
def database(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection]:
    """Our tables with one collection; Airflow has no connections, so the environment says where they are."""
    monkeypatch.setenv("RAGWORKS_DATABASE_URL", settings.database_url or "")
    monkeypatch.setenv("RAGWORKS_HOME", str(settings.home))
    with open_pool(settings) as pool, pool.connection() as connection:
        connection.autocommit = True
        connection.execute("insert into ragworks.collection (name) values ('handbook')")
        yield connection


def deferred(sensor: Any) -> ConditionTrigger:
    """The trigger that a sensor leaves behind when it waits."""
    with pytest.raises(TaskDeferred) as waiting:
        sensor.execute({})
    return waiting.value.trigger  # type: ignore[return-value]


def again(trigger: ConditionTrigger) -> ConditionTrigger:
    """What a triggerer makes of the stored trigger after a restart."""
    path, kwargs = trigger.serialize()
    return import_string(path)(**kwargs)  # type: ignore[no-any-return]


def fired(trigger: ConditionTrigger) -> dict[str, Any]:
    async def first() -> dict[str, Any]:
        return dict((await asyncio.wait_for(anext(trigger.run()), 20)).payload)

    return asyncio.run(first())


def run(connection: Connection, started: datetime, state: str = "done") -> None:
    connection.execute(
        "insert into ragworks.run (collection_id, key, mode, state, started_at) values (1, %s, 'incremental', %s, %s)",
        (str(started), state, started),
    )


def judged(connection: Connection, at: datetime) -> None:
    connection.execute(
        "with asked as (insert into ragworks.query_log (collection_id, kind, query) values (1, 'search', 'q') returning id)"
        " insert into ragworks.feedback (query_id, thumb, created_at) select id, 1, %s from asked",
        (at,),
    )


def measured(connection: Connection, name: str, low: float, high: float, state: str, hours: int) -> None:
    at = START + timedelta(hours=hours)
    connection.execute(
        "insert into ragworks.signal (collection_id, name, window_start, window_end, value, low, high, sample, state, run_key,"
        " measured_at) values (1, %s, %s, %s, %s, %s, %s, 120, %s, 'r', %s)",
        (name, at - timedelta(hours=1), at, (low + high) / 2, low, high, state, at),
    )


def deployed(connection: Connection) -> None:
    connection.execute("update ragworks.deployment set state = 'replaced' where state = 'live'")
    connection.execute(
        "insert into ragworks.deployment (environment, family, collection_id, action, state)"
        " values ('production', 'reranker', 1, 'promote', 'live')"
    )


def test_an_index_is_fresh_when_a_run_that_began_later_is_done(database: Connection) -> None:
    sensor = IndexFreshSensor(task_id="fresh", collection="handbook", since=SINCE, poke_interval=0.05, timeout=60)
    run(database, START - timedelta(hours=1))
    run(database, START + timedelta(hours=1), "failed")
    trigger = deferred(sensor)
    run(database, START + timedelta(hours=2))
    assert fired(again(trigger)) == {"status": "met", "facts": {"as_of": "2026-11-01T02:00:00+00:00"}}
    assert sensor.execute({})["as_of"]  # type: ignore[typeddict-item]  # at once: it holds no trigger either
    assert deferred(IndexFreshSensor(task_id="young", collection="handbook", max_age=60)).arguments["max_age"] == 60


def test_feedback_is_counted_from_a_moment(database: Connection) -> None:
    sensor = NewFeedbackSensor(task_id="f", collection="handbook", minimum=2, since=SINCE, poke_interval=0.05, timeout=60)
    judged(database, START - timedelta(minutes=1))
    judged(database, START + timedelta(minutes=1))
    trigger = deferred(sensor)
    judged(database, START + timedelta(minutes=2))
    assert fired(again(trigger)) == {"status": "met", "facts": {"count": 2}}


def test_a_champion_is_another_than_the_one_at_the_start(database: Connection) -> None:
    deployed(database)
    trigger = deferred(
        ChampionChangedSensor(task_id="c", collection="handbook", family="reranker", poke_interval=0.05, timeout=60)
    )
    assert trigger.arguments["than"] == 1
    deployed(database)  # between the start and a restart of the triggerer: it is not taken for the start
    assert fired(again(trigger))["facts"]["deployment"] == 2
    assert ChampionChangedSensor(task_id="d", collection="handbook", family="reranker", than="1").execute({})  # type: ignore[typeddict-item]


def test_quality_is_asked_of_the_interval_and_drift_of_the_state(database: Connection) -> None:
    quality = {"collection": "handbook", "since": SINCE, "poke_interval": 0.05, "timeout": 60}
    measured(database, "golden_ndcg", 0.7, 0.9, "within", 1)
    assert QualitySensor(task_id="usual", **quality).execute({})["value"] == pytest.approx(0.8)  # type: ignore[arg-type, typeddict-item]
    trigger = deferred(QualitySensor(task_id="high", at_least=0.75, **quality))  # type: ignore[arg-type]
    measured(database, "golden_ndcg", 0.76, 0.9, "within", 2)
    assert fired(again(trigger))["facts"]["low"] == 0.76
    drift = deferred(DriftSensor(task_id="drift", **quality))  # type: ignore[arg-type]
    measured(database, "query_drift", 0.6, 0.7, "beyond", 2)
    assert fired(again(drift))["facts"]["state"] == "beyond"


def test_a_time_out_says_what_was_asked_for_and_what_there_is(database: Connection, caplog: pytest.LogCaptureFixture) -> None:
    run(database, START - timedelta(hours=1))
    sensor = IndexFreshSensor(task_id="fresh", collection="handbook", since=SINCE, poke_interval=0.05, timeout=0.2)
    event = fired(again(deferred(sensor)))
    assert event["status"] == "timeout"
    with pytest.raises(AirflowSensorTimeout) as late:
        sensor.execute_complete({}, event)  # type: ignore[typeddict-item]
    assert str(late.value) == (
        "fresh: Not within 0.2 s: the index of handbook should show its source as of 2026-11-01T00:00:00+00:00 or later,"
        " it shows the source as of 2026-10-31T23:00:00+00:00"
    )


def test_a_database_that_is_away_is_waited_for_and_named_in_the_end(
    database: Connection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trigger = deferred(NewFeedbackSensor(task_id="f", collection="handbook", since=SINCE, poke_interval=0.05, timeout=1))
    monkeypatch.setenv("RAGWORKS_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    assert "it could not be looked at: Postgres at 127.0.0.1:1/none does not answer" in fired(again(trigger))["message"]
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1  # not one a look


def test_what_is_never_measured_or_indexed_is_said(database: Connection) -> None:
    from include.errors import BadConfiguration
    from include.monitoring.conditions import look

    settings = Settings.from_environment()
    told = look(settings, "signal", {"collection": "other", "signal": "latency", "state": "within"}).told
    assert told == "latency of other was not measured since ever: is its monitor on?"
    assert "it was never indexed" in look(settings, "fresh_index", {"collection": "other", "since": SINCE}).told
    with pytest.raises(BadConfiguration, match="it is unknown"):
        look(settings, "moon", {})
    with pytest.raises(BadConfiguration, match="not a moment"):
        look(settings, "new_feedback", {"collection": "handbook", "minimum": 1, "since": "yesterday"})

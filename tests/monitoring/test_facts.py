"""What a decision is told of rows: labels, trainings that go on, the last one, promotions; and how a rollback is done."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from include.collection_file import QueryLog
from include.monitoring import facts
from include.monitoring.alerts import parse
from include.monitoring.breach import Breach
from include.monitoring.carrying import roll_back
from include.monitoring.news import news
from include.store import alerts, decisions, deployments, model_runs, monitored, query_log, training_locks
from include.store.pool import open_pool
from include.store.query_log import LoggedQuery, save_queries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from include.config import Settings
    from include.store.pool import Connection, Pool

AT = datetime(2026, 11, 28, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def pool(settings: Settings) -> Iterator[Pool]:
    """Collection 1, without an index."""
    with open_pool(settings) as opened:
        with opened.connection() as connection:
            connection.execute("insert into ragworks.collection (name) values ('handbook')")
            connection.execute(
                "insert into ragworks.api_key (name, key_hash, scopes)"
                " select name, sha256(name::bytea), '{feedback}' from unnest(array['one', 'two']) name"
            )
        yield opened


def asked(connection: Connection, number: int, ago: timedelta, **columns: Any) -> UUID:
    """A question with an answer that cites, or cites nothing."""
    cites = columns.pop("cites", False)
    query = UUID(int=number, version=4)
    save_queries(connection, [LoggedQuery(1, "chat", query=f"question {number}", id=query, created_at=AT - ago, **columns)])
    connection.execute(
        "insert into ragworks.answer (id, text, citations, confidence, abstained, extractive)"
        " values (%s, 'x', %s, 0.5, false, true)",
        (query, '[{"document": "a.md"}]' if cites else "[]"),
    )
    return query


def judged(connection: Connection, query: UUID, ago: timedelta, **columns: Any) -> None:
    """A row of feedback; accepted the day after unless it says otherwise."""
    values = {"state": "accepted", "reviewed_at": AT - ago + DAY, "thumb": None, "document": None, "purpose": None, **columns}
    connection.execute(
        "insert into ragworks.feedback (query_id, thumb, document, purpose, state, created_at, reviewed_at, api_key_id)"
        " values (%s, %s, %s, %s, %s, %s, %s, %s)",
        (
            query, values["thumb"], values["document"], values["purpose"], values["state"], AT - ago, values["reviewed_at"],
            values.get("key"),
        ),
    )  # fmt: skip


def test_what_a_dataset_would_learn_from(pool: Pool) -> None:
    with pool.connection() as connection:
        given: list[tuple[dict[str, Any], dict[str, Any], int, int]] = [  # question, feedback, whether it teaches, names
            ({}, {"document": "a.md", "purpose": "training"}, 1, 1),
            ({}, {"document": "a.md", "purpose": "golden"}, 0, 0),
            ({}, {"document": "a.md", "state": "rejected"}, 0, 0),
            ({}, {"document": "a.md", "state": "new"}, 0, 0),
            ({}, {"thumb": 1}, 0, 0),
            ({"cites": True}, {"thumb": 1}, 1, 0),
            ({"cites": True}, {"thumb": -1}, 0, 0),
        ]
        teaches = names = 0
        for number, (question, said, learned, named) in enumerate(given):
            judged(connection, asked(connection, number, 5 * DAY, **question), 5 * DAY, **said)
            teaches, names = teaches + learned, names + named
            assert monitored.labels_since(connection, 1, None, AT) == teaches, said
            assert monitored.named_since(connection, 1, AT - 6 * DAY, AT) == names, said
        connection.execute(
            "insert into ragworks.golden_query (collection_id, query, query_hash, origin)"
            " values (1, 'q', gen_random_uuid(), 'imported')"
        )
        assert monitored.labels_since(connection, 1, None, AT) == teaches
        # What counts is when it was accepted: data that was taken before did not have it.
        assert monitored.labels_since(connection, 1, AT - 4.5 * DAY, AT) == teaches
        assert monitored.labels_since(connection, 1, AT - 3.5 * DAY, AT) == 0
        assert monitored.named_since(connection, 1, AT - 4 * DAY, AT) == 0


def test_a_thumb_is_of_one_person(pool: Pool) -> None:
    """The newest of each, and none that a reviewer rejected."""
    with pool.connection() as connection:
        query = asked(connection, 1, DAY)
        for minutes in range(9):
            judged(connection, query, DAY - minutes * timedelta(minutes=1), thumb=-1 if minutes < 8 else 1, state="new", key=1)
        judged(connection, query, DAY, thumb=-1, state="new", key=2)
        judged(connection, asked(connection, 2, DAY), DAY, thumb=-1, state="rejected")
        log = monitored.log(connection, 1, AT - 2 * DAY, AT, latency_budget=1.0)
    assert (log.thumbs, log.thumbs_down, log.judged) == (2, 1, 1)


def test_margins_are_of_the_models_that_answered_most(pool: Pool) -> None:
    with pool.connection() as connection:
        for number in range(5):
            reranker = {"fingerprint": "r", "candidates": 0 if number == 4 else 9}
            passport = {"embedder": {"fingerprint": "new" if number else "old"}, "reranker": reranker}
            asked(connection, number, DAY, passport=passport, results=[{"score": 0.5 + number}, {"score": 0.5}])
        log = monitored.log(connection, 1, AT - 2 * DAY, AT, latency_budget=1.0)
    assert (log.embedder, log.reranker, log.margins, log.margin, log.confident) == ("new", "r", 3, 2.0, 4)


def planned(connection: Connection, key: str, family: str, ago: timedelta, **columns: Any) -> int:
    """A training."""
    run = model_runs.plan(
        connection, key, family=family, collection=1, dataset=None, arguments={}, work_hash=key, base="b",  # type: ignore[arg-type]
        base_fingerprint="f", code_version="c",
    )  # fmt: skip
    connection.execute("update ragworks.model_run set created_at = %s where id = %s", (AT - ago, run.id))
    model_runs.change(connection, run.id, **columns)
    return run.id


def decided(connection: Connection, ago: timedelta, *, mode: str = "auto", run: str | None = None, **outcome: Any) -> int:
    """A decision to train a reranker, over unless it has no outcome."""
    made = decisions.save(
        connection, environment="production", collection=1, at=AT - ago, action="train", family="reranker", mode=mode,
        state="done" if mode == "notify" else "approved", reason="r", evidence={}, breaches=[], monitor_key="m",
    )  # fmt: skip
    assert made is not None
    if run:
        assert decisions.start(connection, made, run)
    if outcome:
        decisions.finish(connection, made, outcome)
    return made


def test_trainings_that_go_on(settings: Settings, pool: Pool) -> None:
    """An unfinished row is not enough: who gave up left one too. A lock is, and so is a step of an hour ago, also the last."""
    with pool.connection() as connection:
        planned(connection, "gave up", "embedder", 3 * DAY, state="interrupted")
        held = planned(connection, "long", "llm", 3 * DAY, state="training")
        planned(connection, "unjudged", "reranker", 3 * DAY, state="trained")
        planned(connection, "over", "reranker", 3 * DAY, state="accepted", finished_at=AT - DAY)
        connection.commit()
        with training_locks.training(pool, held) as lock:
            assert lock is not None
            assert facts.gather(connection, settings, 1, (), AT).running == ("llm",)
        assert facts.gather(connection, settings, 1, (), AT).running == ()
        planned(connection, "retried", "embedder", DAY / 24, state="interrupted")
        planned(connection, "evaluated", "reranker", 3 * DAY, state="evaluated", finished_at=AT - DAY / 24)
        assert facts.gather(connection, settings, 1, (), AT).running == ("embedder", "reranker")


def test_the_cool_down_begins_with_a_training(settings: Settings, pool: Pool) -> None:
    def trained(connection: Connection) -> datetime | None:
        return facts.gather(connection, settings, 1, (), AT).trained

    with pool.connection() as connection:
        decided(connection, 1 * DAY, mode="notify")
        decided(connection, 2 * DAY, run="t/2", state="skipped")
        assert trained(connection) is None
        decided(connection, 6 * DAY, run="t/6", state="failed")
        for minutes in range(120):  # quiet windows do not push it out of sight
            decisions.save(
                connection, environment="production", collection=1, at=AT - DAY - timedelta(minutes=minutes + 1),
                action="nothing", family=None, mode="notify", state="done", reason="r", evidence={}, breaches=[],
                monitor_key="m",
            )  # fmt: skip
        assert trained(connection) == AT - 6 * DAY


def test_a_training_that_failed_before_it_had_a_row_counts(pool: Pool) -> None:
    with pool.connection() as connection:
        decided(connection, DAY, run="train/1", state="failed")
        now = datetime.now(UTC)
        found = monitored.surroundings(connection, 1, now - DAY, now + DAY)
        assert found["failed_trainings"] == 1
        planned(connection, "train/1", "reranker", DAY, state="failed", finished_at="now")
        assert monitored.surroundings(connection, 1, now - DAY, now + DAY)["failed_trainings"] == 1


def test_promotions_and_a_rollback(settings: Settings, pool: Pool, collection: Callable[..., str]) -> None:
    collection()
    began = Breach("thumbs_down", AT - DAY, since=AT - 2 * DAY)
    with pool.connection() as connection:
        for number, ago in ((1, 9 * DAY), (2, DAY)):
            run = planned(connection, f"run/{number}", "reranker", ago, state="accepted", version=number, finished_at=AT - ago)
            live = deployments.put_live(
                connection, "production", "reranker", 1, model_run=run, version=number, settings={"fingerprint": str(number)}
            )
            connection.execute("update ragworks.deployment set created_at = %s where id = %s", (AT - ago, live.id))
        known = facts.gather(connection, settings, 1, [began], AT)
        assert [(p.family, p.version, p.at) for p in known.promotions] == [("reranker", 2, AT - DAY)]
        assert (known.tried, known.open_decision) == (("reranker",), None)
        made = decisions.save(
            connection, environment="production", collection=1, at=AT - DAY / 2, action="rollback", family="reranker",
            mode="auto", state="approved", reason="it is worse", evidence={}, breaches=[], monitor_key="m",
        )  # fmt: skip
        assert made
        assert (
            facts.gather(connection, settings, 1, [began], AT).open_decision
            == f"decision {made} (rollback reranker) is approved"
        )
        decision = decisions.by_id(connection, made)
    assert decision
    assert roll_back(settings, pool, decision, "tests") == {"state": "done", "version": 1, "replaced": 2}
    assert roll_back(settings, pool, decision, "tests") == {"state": "done", "version": 1}  # a retry does not go forward again
    with pool.connection() as connection:
        live_now = deployments.deployed(connection, "production", "reranker", 1)
        assert live_now
        assert (live_now.version, live_now.action, live_now.reason) == (1, "rollback", "it is worse")
        assert [one.state for one in deployments.history(connection, "production", "reranker", 1)] == [
            "live",
            "failed",
            "replaced",
        ]
        over = decisions.by_id(connection, made)
        assert over
        assert (over.state, over.outcome) == ("done", {"state": "done", "version": 1, "replaced": 2})


def test_news_and_how_long_it_is_kept(pool: Pool) -> None:
    """A decision begins once, whoever claims it; a rollback of a person is told, that of a decision with the decision."""
    with pool.connection() as connection:
        for number in range(25):  # decisions of one delivery do not push each other out
            decided(connection, DAY + timedelta(seconds=number), mode="notify")
        made = decided(connection, DAY / 2)
        before = [one.key for one in news(connection, "production", 1, "handbook")]
        assert (before[-1], len(before)) == (f"decision:{made}:approved", 26)
        assert [one.id for one in decisions.claim(connection, worker="one")] == [made]
        for actor in ("ada", "airflow monitor_handbook/1"):
            run = planned(connection, actor, "reranker", DAY, state="accepted", version=len(actor), finished_at=AT)
            deployments.put_live(
                connection, "production", "reranker", 1, model_run=run, version=len(actor), settings={}, action="rollback",
                actor=actor, reason="worse",
            )  # fmt: skip
        told = news(connection, "production", 1, "handbook")
        assert [one.key for one in told[:-1]] == before
        assert (told[-1].subject, told[-1].text) == ("handbook: the reranker was rolled back to version 3", "By ada: worse")

        for key in "12":
            report = parse("plain", {"key": key, "title": "x", "collection": "handbook"})
            alerts.save(connection, "production", {"handbook": 1}, report)
        alerts.see(connection, 1, "m", "looked at")
        alerts.note_told(connection, 1, "log:alert:1")
        for days, left in ((31, (2, 1)), (91, (1, 0))):
            connection.execute("update ragworks.alert set received_at = now() - make_interval(days => %s)", (days,))
            connection.execute("update ragworks.told set told_at = now() - make_interval(days => %s)", (days,))
            query_log.expire(connection, 1, QueryLog(keep_days=90))
            rows = connection.execute("select (select count(*) from ragworks.alert), (select count(*) from ragworks.told)")
            assert rows.fetchone() == left

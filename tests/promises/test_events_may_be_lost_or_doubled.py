"""Promise 9: events may be lost or doubled. Every consumer reads state and trusts no event; running twice changes nothing."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from include.monitoring.carrying import TakenAlready, begin_training, end_training
from include.store import decisions
from include.store.pool import open_pool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.config import Settings
    from include.store.pool import Pool

FIRST = datetime(2026, 11, 2, tzinfo=UTC)


@pytest.fixture
def pool(settings: Settings) -> Iterator[Pool]:
    with open_pool(settings) as pool:
        with pool.connection() as connection:
            connection.execute("insert into ragworks.collection (name) values ('handbook')")
        yield pool


def decided(pool: Pool, week: int) -> int:
    with pool.connection() as connection:
        found = decisions.save(
            connection, environment="production", collection=1, at=FIRST + timedelta(weeks=week), action="train",
            family="reranker", mode="auto", state="approved", reason="quality is lost", evidence={}, breaches=(),
            monitor_key="m",
        )  # fmt: skip
    assert found is not None
    return found


def deliver(pool: Pool, run_key: str, asked: list[int]) -> int | None:
    """A run that an event started: the decision that it carries out, None when another does."""
    try:
        decision = begin_training(pool, "production", "reranker", "handbook", run_key, asked)
    except TakenAlready:
        return None
    return decision.id if decision else None


def test_of_many_runs_at_once_one_trains(pool: Pool) -> None:
    decision = decided(pool, 0)
    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(lambda n: deliver(pool, f"train_reranker/{n}", [decision]), range(24)))
    assert [one for one in taken if one] == [decision]
    again = [deliver(pool, f"train_reranker/{n}", [decision]) for n in range(24)]
    assert [bool(one) for one in again] == [bool(one) for one in taken]  # the run that has it may come again: it is the same


@pytest.mark.parametrize("seed", range(5))
def test_in_any_order_lost_and_doubled(pool: Pool, seed: int) -> None:
    """Claims are given out, events of them vanish, come twice, late and out of order; each decision is carried out once."""
    draw, carried, open_events, runs = random.Random(seed), dict[int, str](), list[int](), 0
    wanted = []
    for week in range(4):  # at most one is open for a collection
        wanted.append(decided(pool, week))
        while wanted[-1] not in carried:
            with pool.connection() as connection:
                claimed = [one.id for one in decisions.claim(connection, worker=f"triggerer-{draw.randrange(2)}")]
                if not claimed and draw.random() < 0.5:  # five minutes later
                    connection.execute("update ragworks.decision set claimed_at = claimed_at - interval '6 minutes'")
            open_events += [one for one in claimed for _ in range(draw.choice((0, 1, 1, 2)))]  # lost, whole, doubled
            draw.shuffle(open_events)
            while open_events and draw.random() < 0.7:
                runs += 1
                asked = [
                    open_events.pop() for _ in range(min(len(open_events), draw.choice((1, 1, 2))))
                ]  # Airflow joins events
                taken = deliver(pool, key := f"train_reranker/{runs}", asked)
                if taken is not None:
                    assert taken not in carried
                    carried[taken] = key
                    open_events.append(taken)  # and comes again, late
                    for _ in range(2):
                        end_training(pool, key, [])
    assert sorted(carried) == sorted(wanted)
    with pool.connection() as connection:
        rows = decisions.history(connection, "production", 1)
    assert {(row.id, row.run_key, row.state) for row in rows} == {(one, key, "done") for one, key in carried.items()}

"""A window that is compared with nothing says nothing: no breach ends by it. Figures of a model are held against its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from include.collection_file import Monitoring
from include.monitoring import golden
from include.monitoring.measure import Scene, _drift
from include.monitoring.run import monitor
from include.monitoring.usual import Usual
from include.monitoring.windows import Window
from include.progress import Silent
from include.store import signals
from include.store.pool import open_pool
from include.store.query_log import LoggedQuery, save_queries
from include.store.signals import Reference

if TYPE_CHECKING:
    from collections.abc import Callable

    from include.config import Settings

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("first", "last", "state"),
    [
        (0, 1, "within"),  # it is what is usual
        (1, 2, "within"),
        (1, 3, "too_few"),  # half of it is, as of the day of a promotion
        (2, 3, "too_few"),  # no vectors are left to compare it with
    ],
)
def test_drift_without_a_comparison(first: float, last: float, state: str) -> None:
    scene = Scene(1, Monitoring(), None, {}, 1.0, 0.1)
    usual = Usual(*(Reference(START, START + 2 * DAY, START, scope=scope) for scope in ("all", "drift")))
    window = Window(START + first * DAY, START + last * DAY)
    none = np.zeros((0, 0), np.float32)
    assert [one.state for one in _drift(scene, window, usual, none, 0, enough=False)] == [state, state]
    assert [one.state for one in _drift(scene, window, None, none, 0, enough=False)] == ["within", "within"]


def test_golden_queries_that_have_nothing_to_be_paired_with() -> None:
    scores = {"columns": ["query", golden.MEASURE], "rows": [[str(number), 0.5 + number / 100] for number in range(30)]}
    now: Any = SimpleNamespace(id=1, report={"scores": scores})
    window = Window(START, START + DAY)
    assert golden._signal(now, None, window, 20).state == "too_few"
    assert golden._signal(now, now, window, 20).state == "within"
    assert golden._signal(now, now, window, 31).state == "too_few"


def test_a_breach_ends_by_a_comparison_with_windows_of_the_same_models(
    settings: Settings, collection: Callable[..., str]
) -> None:
    """Each reranker has scores of its own kind: what one loses is not regained because another came."""
    collection(monitoring={"minimum_sample": 20, "reference_days": 2})
    days = [("a", 0.5), ("a", 0.5), ("b", 0.05), ("b", 0.05), ("b", 0.01), ("b", 0.01), ("c", 0.7), ("c", 0.7)]
    draw = np.random.default_rng(3)
    with open_pool(settings) as pool:
        with pool.connection() as connection:
            connection.execute("insert into ragworks.collection (name) values ('handbook')")
            for day, (reranker, margin) in enumerate(days):
                passport = {"embedder": {"fingerprint": "e"}, "reranker": {"fingerprint": reranker, "candidates": 9}}
                gaps = margin + 0.004 * draw.standard_normal(40)
                save_queries(connection, [
                    LoggedQuery(1, "search", results=[{"score": 1.0}, {"score": 1 - float(gap)}], passport=passport,
                                created_at=START + (day + number / 40) * DAY)
                    for number, gap in enumerate(gaps)
                ])  # fmt: skip
        open_until = []
        for day in range(1, len(days) + 1):
            found = monitor(settings, pool, "handbook", at=START + day * DAY, run_key=f"run/{day}", progress=Silent())
            open_until += [day for breach in found.breaches if breach.signal == "score_margin"]
        with pool.connection() as connection:
            history = signals.history(connection, 1, until=START + 9 * DAY)["score_margin"]
            newest = signals.history(connection, 1, until=START + 9 * DAY, latest=5)
            decided = connection.execute("select action, outcome -> 'effect' from ragworks.decision order by at").fetchall()
    states = ["within", "within", "too_few", "within", "beyond", "beyond", "too_few", "within"]
    assert [one.state for one in history] == states
    of = [one.reference.get("of") for one in history]
    assert of == [None, None, None, *[(START + 2 * DAY).isoformat()] * 3, None, (START + 6 * DAY).isoformat()]
    assert open_until == [6, 7]
    ended = {"ended_at": (START + 8 * DAY).isoformat(), "compared_with": (START + 6 * DAY).isoformat()}
    assert decided[5][1] == {"score_margin": ended}
    assert [one.id for one in newest["score_margin"]] == [one.id for one in history if one.state != "too_few"][-5:]
    assert [one.state for one in newest["thumbs_down"]] == ["too_few"]

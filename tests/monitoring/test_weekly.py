"""The page of a week: what it says, that it needs no network, and that it quotes nothing that was asked."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

import pytest

from include.cli.main import main
from include.errors import BadConfiguration
from include.monitoring.breach import Breach, Signal
from include.monitoring.effects import effects
from include.monitoring.week_page import render
from include.monitoring.weekly import folder_shown, gather, publish_weekly_report
from include.monitoring.weeks import bounds, week_of
from include.store import decisions, deployments, query_log, signals
from include.store.deployments import Deployment
from include.store.feedback import Feedback, save_feedback
from include.store.pool import open_pool
from tests.evaluation.test_model_page import checked

if TYPE_CHECKING:
    from collections.abc import Callable

    from include.config import Settings
    from include.monitoring.breach import State

WEEK = "2026-W48"
START, END = bounds(WEEK)
SECRET = "where does the otter hide"


@pytest.mark.parametrize(
    ("at", "week"),
    [
        (datetime(2026, 11, 23, tzinfo=UTC), "2026-W48"),
        (datetime(2026, 11, 29, 23, 59, tzinfo=UTC), "2026-W48"),
        (datetime(2027, 1, 3, tzinfo=UTC), "2026-W53"),
        (datetime(2026, 1, 1, tzinfo=UTC), "2026-W01"),
    ],
)
def test_weeks_are_those_of_the_calendar(at: datetime, week: str) -> None:
    assert week_of(at) == week
    start, end = bounds(week)
    assert start <= at < end
    assert (start.isoweekday(), end - start) == (1, timedelta(days=7))


@pytest.mark.parametrize("week", ["2026-48", "2025-W53", "2026-W00", "W48", "../2026-W48"])
def test_what_is_no_week(week: str) -> None:
    with pytest.raises(BadConfiguration, match="Write it as 2026-W48"):
        bounds(week)


def rows(name: str, level: Callable[[int], float], *, days: int = 40, width: float = 0.03) -> list[Signal]:
    """A measurement a day up to the end of the week."""
    draw = random.Random(name)
    found = []
    for day in range(days):
        end = END - timedelta(days=days - 1 - day)
        value = level(day) + draw.gauss(0, width / 4)
        state: State = "beyond" if abs(level(day) - level(0)) > 2 * width else "within"
        usual = {"value": level(0), "low": level(0) - width, "high": level(0) + width, "sample": 700, "of": "first week"}
        found.append(
            Signal(name, end - timedelta(days=1), end, value, value - width, value + width, 150, 0.02, 0.1, None,
                   "too_few" if day == 3 else state, usual)
        )  # fmt: skip
    return found


def deployment(at: datetime, **columns: Any) -> Deployment:
    values: dict[str, Any] = dict.fromkeys(Deployment.__dataclass_fields__) | {
        "id": 1, "environment": "production", "family": "reranker", "collection_id": 1, "version": 3, "action": "promote",
        "state": "live", "settings": {}, "reason": SECRET, "actor": "ada", "created_at": at,
    }  # fmt: skip
    return Deployment(**(values | columns))


def test_whether_a_promotion_helped() -> None:
    """Windows on either side alone, up to a week and no further than the next one; worse and better by the signal's own way."""
    at = START + timedelta(hours=12)
    history = {
        "coverage": rows("coverage", lambda day: 0.5 if day < 34 else 0.8),
        "zero_results": rows("zero_results", lambda day: 0.02 if day < 34 else 0.3),
        "latency": rows("latency", lambda day: 0.01),
        "gpu_hours": rows("gpu_hours", lambda day: 1.0),
    }
    (found,) = effects(history, [deployment(at)], END)
    verdicts = {one.signal: one.verdict for one in found.changes}
    assert verdicts == {"coverage": "better", "zero_results": "worse", "latency": "no difference"}
    coverage = next(one for one in found.changes if one.signal == "coverage")
    assert coverage.before == pytest.approx(0.5, abs=0.02)
    assert coverage.after == pytest.approx(0.8, abs=0.02)
    first, second = effects(history, [deployment(at), deployment(at + timedelta(hours=6))], END)
    assert {one.verdict for one in first.changes} == {"too few"}
    assert {one.verdict for one in second.changes} == {"too few"}


def fill(settings: Settings) -> None:
    """Six weeks of signals; drift from the fourth on, a training, a promotion that helped; a question that nobody may quote."""
    history = {
        "query_drift": rows("query_drift", lambda day: 0.5 if day < 22 else 0.71, width=0.04),
        "coverage": rows("coverage", lambda day: 0.62 if day < 24 else 0.45 if day < 36 else 0.6),
        "golden_ndcg": rows("golden_ndcg", lambda day: 0.71 if day < 36 else 0.78, width=0.02),
        "thumbs_down": rows("thumbs_down", lambda day: 0.12 if day < 24 else 0.3 if day < 36 else 0.14, width=0.06),
        "latency": rows("latency", lambda day: 0.01, width=0.008),
        "freshness": [replace(one, low=None, high=None, reference={}) for one in rows("freshness", lambda day: 5.0 + day % 3)],
    }
    with open_pool(settings) as pool, pool.connection() as connection:
        connection.execute("insert into ragworks.collection (name) values ('handbook'), ('quiet')")
        for measured in history.values():
            signals.save(connection, 1, measured, run_key="monitor")
        ids = {name: found[-1].id for name, found in signals.history(connection, 1, until=END).items()}
        opened = START - timedelta(days=10)
        for name, ended in (("query_drift", None), ("coverage", START + timedelta(days=4))):
            breach = Breach(name, opened, None, f"{name} is beyond in 2 of the last 5 windows", (ids[name],), opened)
            made = signals.open_breach(connection, 1, breach, run_key="monitor")
            if ended and made:
                signals.end_breach(connection, made, ended)
        for hours, action, family, reason, evidence in (
            (
                12,
                "train",
                "reranker",
                "quality is down and 240 new judgements are there",
                {
                    "refused": [{"action": "train embedder", "why": "a training of the reranker is cheaper and was not tried"}],
                },
            ),
            (60, "train", "embedder", f"plain asks for it: {SECRET}", {"alert": {"id": 4, "source": "plain", "title": SECRET}}),
        ):
            decision = decisions.save(
                connection, environment="production", collection=1, at=START + timedelta(hours=hours), action=action,
                family=family, mode="approve", state="approved", reason=reason, evidence=evidence, breaches=[1, 2],
                monitor_key="monitor",
            )  # fmt: skip
            assert decision
            decisions.start(connection, decision, f"train_{family}/asset_triggered__2026-11-23")
            outcome = {"state": "accepted", "version": 3, "promoted": True, "error": SECRET}
            decisions.finish(connection, decision, outcome)
        decisions.note_effect(connection, 2, {"coverage": {"ended_at": str(START)}})
        connection.execute(
            "insert into ragworks.model_run (run_key, family, collection_id, arguments, work_hash, state, base,"
            " base_fingerprint, code_version, version) values ('k', 'reranker', 1, '{}', 'w', 'accepted', 'b', 'f', 'c', 3)"
        )
        deployments.put_live(connection, "production", "reranker", 1, model_run=1, version=3, settings={}, reason=SECRET)
        connection.execute("update ragworks.deployment set created_at = %s", (START + timedelta(days=2, hours=1),))
        for number in range(30):
            asked = query_log.save_query(
                connection, collection_id=1, generation_id=1, kind="search", query=SECRET, embedding=None, passport={},
                results=[{"document": SECRET, "score": 0.5, "start": 0, "end": 5}], status="ok", seconds={"search": 0.2},
            )  # fmt: skip
            save_feedback(connection, Feedback(asked, 1 if number % 5 else -1, comment=SECRET))
        connection.execute("update ragworks.query_log set created_at = %s", (START + timedelta(days=3),))


def test_the_page(
    settings: Settings, collection: Callable[..., str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    collection()
    fill(settings)
    with open_pool(settings) as pool:
        place = publish_weekly_report(settings, pool, "handbook", WEEK)
        assert place == publish_weekly_report(settings, pool, "handbook", WEEK)
        earlier = gather(settings, pool, "handbook", "2026-W47")
        collection("quiet")
        quiet = render(gather(settings, pool, "quiet", WEEK))
    assert place.endswith(f"/reports/monitoring/handbook/{WEEK}.html")
    told = folder_shown(settings.model_copy(update={"artifacts": "sftp://me:secret@host/models"}), "handbook")
    assert told == "sftp://host/models/reports/monitoring/handbook"
    page = Path(urlparse(place).path).read_text()
    assert len(checked(page).drawings) == 6
    assert SECRET not in page
    for said in (
        "1 signal is beyond what is usual: query_drift", "coverage is beyond in 2 of the last 5 windows", "train the reranker",
        "not train embedder: a training of the reranker is cheaper", "done, version 3, promoted, coverage is back",
        "report 4 from plain asks for it", "reranker 3, promote", "80%", ">better<",
    ):  # fmt: skip
        assert said in page, said
    assert len(page) < 1_500_000
    assert {b.signal: b.ended_at for b in earlier.breaches} == {"query_drift": None, "coverage": None}  # as it was then
    assert earlier.effects == []
    checked(quiet)
    assert "Nothing was measured in this week" in quiet
    places = {"DATABASE_URL": settings.database_url, "HOME": settings.home, "COLLECTIONS_DIR": settings.collections_dir}
    for name, value in places.items():
        monkeypatch.setenv(f"RAGWORKS_{name}", str(value))
    monkeypatch.delenv("RAGWORKS_ARTIFACTS", raising=False)
    assert main(["report", "handbook", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"collection": "handbook", "week": WEEK, "page": place}
    assert main(["report", "handbook", "--list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["weeks"] == [WEEK]
    assert main(["report", "handbook", "--week", "2026-48"]) == 65

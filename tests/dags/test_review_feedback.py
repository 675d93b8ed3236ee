"""The review DAG: skipped when nothing is open; else a form whose answers are written down. The form's own API is Airflow's."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

import pytest
from airflow.providers.standard.operators import hitl
from airflow.sdk.exceptions import AirflowSkipException, TaskAwaitingInput

from include.monitoring.weeks import week_of
from include.store import query_log
from include.store.feedback import Feedback, save_feedback
from include.store.pool import open_pool
from ragworks.operators.feedback import LEAVE, SAVE, ReviewFeedbackOperator
from ragworks.operators.weekly import ReportWeekOperator
from tests.support import query

if TYPE_CHECKING:
    from collections.abc import Callable

    from include.config import Settings
    from include.store.pool import Pool
    from tests.dags.conftest import DagRunResult

PERSON = {"id": "1", "name": "ada"}


def judge(settings: Settings, *questions: str) -> list[str]:
    """A judgement of each question, one after the other: the oldest is asked first."""
    with open_pool(settings) as pool:
        with pool.connection() as connection:
            connection.execute("insert into ragworks.collection (name) values ('handbook') on conflict do nothing")
        return [_judged(pool, text) for text in questions]


def _judged(pool: Pool, text: str) -> str:
    with pool.connection() as connection:
        asked = query_log.save_query(
            connection, collection_id=1, generation_id=1, kind="search", query=text, embedding=None, passport={},
            results=[{"document": "a.md", "start": 0, "end": 5, "score": 1.0}], status="ok", seconds={},
        )  # fmt: skip
        return str(save_feedback(connection, Feedback(asked, -1, comment="not *this*")))


def states(settings: Settings) -> list[tuple[Any, ...]]:
    return query(settings, "select state, reviewed_by from ragworks.feedback order by created_at, id")


def event(chosen: str, answers: dict[str, str], person: dict[str, str] | None = PERSON) -> dict[str, Any]:
    return {
        "chosen_options": [chosen], "params_input": answers, "responded_at": datetime.now(UTC), "responded_by_user": person,
    }  # fmt: skip


def test_nothing_open_is_skipped(
    collection: Callable[..., str], run_dag: Callable[..., DagRunResult], settings: Settings
) -> None:
    collection()
    judge(settings)
    result = run_dag("review_feedback", collection="handbook", batch=5, texts=True)
    assert (result.state, result.tasks) == ("success", {"review": ["skipped"]})


def test_a_batch_is_asked_and_written_down(
    in_environment: Settings, collection: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    collection()
    ids = judge(in_environment, "where is <it>?", "and | zebra", "a third")
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(hitl, "upsert_hitl_detail", lambda **detail: asked.append(detail))
    context: Any = {"task_instance": SimpleNamespace(id="0")}
    operator = ReviewFeedbackOperator(task_id="review", collection="handbook", batch="2", texts="True")
    with pytest.raises(TaskAwaitingInput):
        operator.execute(context)
    (form,) = asked
    assert (form["subject"], form["options"], form["defaults"]) == ("Review 2 judgements of handbook", [SAVE, LEAVE], [LEAVE])
    assert list(form["params"]) == ids[:2]
    assert form["params"][ids[0]]["schema"]["title"] == "1. where is <it>?"
    for said in ("1 more are open", r"1. where is \<it\>?", r"and \| zebra", r"comment: not \*this\*", "1. `a.md`"):
        assert said in form["body"]

    done = operator.execute_complete(context, event(SAVE, {ids[0]: "accept", ids[1]: "leave open"}))
    assert (done["accepted"], done["unchanged"]) == (1, 0)
    again = operator.execute_complete(context, event(SAVE, {ids[0]: "accept", ids[1]: "leave open"}))
    assert (again["accepted"], again["unchanged"]) == (0, 1)
    assert states(in_environment) == [("accepted", "ada"), ("new", ""), ("new", "")]
    gone = "00000000-0000-4000-8000-000000000000"  # it expired while the form waited
    kept = operator.execute_complete(context, event(SAVE, {ids[0]: "accept", gone: "accept"}))
    assert (kept["accepted"], kept["unchanged"]) == (0, 1)
    operator.execute_complete(context, event(LEAVE, {ids[0]: "reject", ids[1]: "reject"}, None))
    assert states(in_environment)[0] == ("accepted", "ada")

    bare = ReviewFeedbackOperator(task_id="review", collection="handbook", texts=False)
    with pytest.raises(TaskAwaitingInput):
        bare.execute(context)
    shown = str(asked[-1])
    assert ids[1] in shown
    assert "zebra" not in shown
    assert "this" not in shown
    bare.execute_complete(context, event(SAVE, dict.fromkeys(ids[1:], "reject")))
    with pytest.raises(AirflowSkipException, match="handbook has no open feedback"):
        bare.execute(context)


def test_the_page_of_a_week(in_environment: Settings, collection: Callable[..., str]) -> None:
    """Also of a collection of which nothing was measured yet: the week is this one then."""
    collection()
    judge(in_environment)
    page = ReportWeekOperator(task_id="report", collection="handbook").execute({})
    assert page.endswith(f"/reports/monitoring/handbook/{week_of(datetime.now(UTC))}.html")
    assert "Nothing was measured" in Path(urlparse(page).path).read_text()

"""What a person's answer does: a yes keeps the index that a challenger was tried on, for the promotion; a no drops it.

No answer within `training.approval_hours` is a no. Waiting and the end of waiting are Airflow's scheduler's.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.models.hitl import HITLDetail
from airflow.providers.standard.operators import hitl
from airflow.sdk.exceptions import TaskAwaitingInput

from include.monitoring.news import news
from include.store import decisions
from include.store.pool import open_pool
from ragworks.operators.monitoring import ActOperator, ApproveDecisionOperator
from ragworks.operators.training import ApproveModelOperator
from tests.indexing.test_candidate import _build, _states, _training, live  # noqa: F401 - a fixture
from tests.support import query

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.providers.standard.operators.hitl import ApprovalOperator

    from include.config import Settings


@pytest.mark.parametrize(("answer", "left"), [("Approve", True), ("Reject", False)])
def test_the_answer(
    live: int,  # noqa: F811
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    left: bool,
) -> None:
    _in_environment(settings, monkeypatch)
    candidate = _build(settings, "trial")
    with open_pool(settings) as pool:
        _training(pool, "trial", "accepted")
    operator = ApproveModelOperator(task_id="approve", family="embedder", run_key="trial")
    event = {"chosen_options": [answer], "params_input": {}, "responded_at": datetime.now(UTC), "responded_by_user": None}
    assert operator.execute_complete({}, event)["chosen_options"] == [answer]  # type: ignore[arg-type]
    assert _states(settings) == {live: "live"} | ({candidate.id: "candidate"} if left else {})


def test_a_model_that_nobody_answered_for_is_not_promoted(
    live: int,  # noqa: F811
    settings: Settings,
    collection: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _in_environment(settings, monkeypatch)
    collection(training={"approval_hours": 5})
    _build(settings, "trial")
    with open_pool(settings) as pool:
        _training(pool, "trial", "accepted")
    operator = ApproveModelOperator(task_id="approve", family="embedder", run_key="trial")
    context = _context()
    event = _after_time_out(operator, context, monkeypatch, hours=5)
    assert operator.execute_complete(context, event)["chosen_options"] == ["Reject"]
    assert _states(settings) == {live: "live"}  # the index that it was tried on is gone
    assert query(settings, "select state, version from ragworks.model_run") == [("accepted", None)]
    assert query(settings, "select count(*) from ragworks.deployment") == [(0,)]


def test_a_decision_that_nobody_answered_is_refused(
    settings: Settings, collection: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _in_environment(settings, monkeypatch)
    collection(training={"approval_hours": 0.5})
    with open_pool(settings) as pool, pool.connection() as connection:
        connection.execute("insert into ragworks.collection (name) values ('handbook')")
        decisions.save(
            connection, environment=settings.environment, collection=1, at=datetime.now(UTC), action="train",
            family="reranker", mode="approve", state="waiting", reason="worse", evidence={}, breaches=(), monitor_key="m",
        )  # fmt: skip
    operator = ApproveDecisionOperator(task_id="approve", collection="handbook", run_key="m")
    context = _context()
    event = _after_time_out(operator, context, monkeypatch, hours=0.5)
    assert operator.execute_complete(context, event)["chosen_options"] == ["Reject"]
    with open_pool(settings) as pool, pool.connection() as connection:
        [known] = decisions.history(connection, settings.environment, 1)
        assert (known.state, known.actor, known.ended_at is not None) == ("refused", "", True)
        assert decisions.claim(connection, worker="w") == []  # no training begins
        told = [item.subject + item.text for item in news(connection, settings.environment, 1, "handbook")]
    assert any("was refused by nobody: the time to answer is over" in text for text in told)
    assert ActOperator(task_id="act", collection="handbook", run_key="m").execute(context) == []


def _in_environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGWORKS_DATABASE_URL", settings.database_url or "")
    monkeypatch.setenv("RAGWORKS_HOME", str(settings.home))
    monkeypatch.setenv("RAGWORKS_COLLECTIONS_DIR", str(settings.collections_dir))


def _context() -> Any:
    kept: dict[str, Any] = {}
    instance = SimpleNamespace(
        id="0", xcom_push=kept.__setitem__, xcom_pull=lambda task_ids, key: kept[key], task_id="approve", map_index=-1
    )
    return {"ti": instance, "task_instance": instance}


def _after_time_out(operator: ApprovalOperator, context: Any, monkeypatch: pytest.MonkeyPatch, hours: float) -> dict[str, Any]:
    """Ask, and what the scheduler resumes the task with when nobody answered in these hours."""
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(hitl, "upsert_hitl_detail", lambda **detail: asked.append(detail))  # which needs Airflow's API
    with pytest.raises(TaskAwaitingInput) as waiting:
        operator.execute(context)
    assert waiting.value.timeout == timedelta(hours=hours)
    [form] = asked
    detail = HITLDetail(chosen_options=form["defaults"], params_input={}, responded_at=datetime.now(UTC))
    return detail.as_resume_event_payload(timedout=True)

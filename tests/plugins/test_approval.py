"""What a person's answer does: a yes keeps the index that a challenger was tried on, for the promotion; a no drops it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from include.store.pool import open_pool
from ragworks.operators.training import ApproveModelOperator
from tests.indexing.test_candidate import _build, _states, _training, live  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from include.config import Settings


@pytest.mark.parametrize(("answer", "left"), [("Approve", True), ("Reject", False)])
def test_the_answer(
    live: int,  # noqa: F811
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    left: bool,
) -> None:
    monkeypatch.setenv("RAGWORKS_DATABASE_URL", settings.database_url or "")
    monkeypatch.setenv("RAGWORKS_HOME", str(settings.home))
    monkeypatch.setenv("RAGWORKS_COLLECTIONS_DIR", str(settings.collections_dir))
    candidate = _build(settings, "trial")
    with open_pool(settings) as pool:
        _training(pool, "trial", "accepted")
    operator = ApproveModelOperator(task_id="approve", family="embedder", run_key="trial")
    event = {"chosen_options": [answer], "params_input": {}, "responded_at": datetime.now(UTC), "responded_by_user": None}
    assert operator.execute_complete({}, event)["chosen_options"] == [answer]  # type: ignore[arg-type]
    assert _states(settings) == {live: "live"} | ({candidate.id: "candidate"} if left else {})

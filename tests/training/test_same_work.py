"""The same work is done once, whoever asks for it again; what a dead process left stands in nobody's way."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from include.datasets.options import DatasetOptions
from include.progress import Silent
from include.store import collections, datasets, model_runs, training_locks
from include.store.model_runs import ModelRun
from include.store.pool import open_pool
from include.training.arguments import arguments_of
from include.training.ledger import NOTED
from include.training.pipeline import AlreadyDone, Request, prepare, still_counts
from ragworks.operators.training import asked_at
from tests.training.tiny import pairs, small_base

if TYPE_CHECKING:
    from include.config import Settings
    from include.store.pool import Pool

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
LONG, LATELY = NOW - timedelta(days=3), NOW - timedelta(hours=3)
RUN = ModelRun(
    id=5, run_key="k", family="reranker", collection_id=1, dataset_id=1, arguments={}, work_hash="w", state="training",
    base="b", base_fingerprint="f", code_version="c", attempts=1, step=40, checkpoint=None, baseline=None, training={},
    evaluation=None, gate=None, hardware={}, gpu_seconds=0.0, cost=None, artifact=None, fingerprint=None, version=None,
    error=None, created_at=LONG, started_at=LONG, finished_at=None,
)  # fmt: skip
HELD = {training_locks.second_key(RUN.id)}


@pytest.mark.parametrize(
    ("changes", "held", "counts"),
    [
        ({"state": "accepted"}, set(), True),
        ({"state": "refused"}, set(), True),
        ({"state": "failed", "created_at": LATELY}, set(), False),
        ({"state": "training"}, set(), False),  # its process died three days ago
        ({"state": "training"}, HELD, True),
        ({"state": "training"}, {99}, False),
        ({"state": "interrupted"}, set(), False),
        ({"state": "interrupted", "training": {NOTED: LATELY.isoformat()}}, set(), True),  # a long one, which waits for a GPU
        ({"state": "planned", "created_at": LATELY, "started_at": None}, set(), True),
        ({"state": "planned", "started_at": None}, set(), False),
        ({"state": "trained", "finished_at": LATELY}, set(), True),
        ({"state": "evaluated", "finished_at": LONG}, set(), False),
    ],
)
def test_what_makes_the_same_work_needless(changes: dict[str, Any], held: set[int], counts: bool) -> None:
    assert still_counts(replace(RUN, **changes), held, NOW) is counts


def _request(pool: Pool, *, rows: int = 20, **arguments: Any) -> Request:
    with pool.connection() as connection:
        collection = collections.ensure_collection(connection, "handbook")
        data = datasets.save(connection, collection, "tiny", pairs(rows), arguments={}, statistics={})
    wanted = arguments_of("embedder", {"base": small_base(), **arguments})
    return Request("embedder", "handbook", wanted, DatasetOptions(), dataset=data.id)


def test_a_dead_training_stands_in_nobodys_way(settings: Settings) -> None:
    with open_pool(settings) as pool:
        request = _request(pool)
        first = prepare(settings, pool, "first", request, progress=Silent())
        with pytest.raises(AlreadyDone, match="training first is of the same data, arguments and base, and is planned"):
            prepare(settings, pool, "second", request, progress=Silent())
        with pool.connection() as connection:
            connection.execute("update ragworks.model_run set created_at = now() - interval '2 days'")
        with training_locks.training(pool, first.id), pytest.raises(AlreadyDone):  # somebody works on it
            prepare(settings, pool, "second", request, progress=Silent())
        assert prepare(settings, pool, "second", request, progress=Silent()).run_key == "second"


def test_an_event_is_served_by_what_was_planned_after_it(settings: Settings) -> None:
    """Though the live index, and with it the dataset, is another by now: the first training has changed it."""
    before = datetime.now(UTC) - timedelta(minutes=1)
    with open_pool(settings) as pool:
        request = _request(pool)
        prepare(settings, pool, "first", request, asked_at=before, progress=Silent())
        _other_content(pool)
        with pytest.raises(AlreadyDone, match="first was planned with the same options after this was asked for"):
            prepare(settings, pool, "second", request, asked_at=before, progress=Silent())
        assert prepare(settings, pool, "first", request, asked_at=before, progress=Silent()).run_key == "first"  # a retry
        # What comes later, or asks for something else, or is asked for by a person, is another matter.
        other = replace(request, arguments=arguments_of("embedder", {"base": small_base(), "epochs": 7}))
        later = datetime.now(UTC) + timedelta(minutes=1)
        for key, asked, since in (("third", other, before), ("fourth", request, later)):
            assert prepare(settings, pool, key, asked, asked_at=since, progress=Silent()).run_key == key
            _other_content(pool)
        with pool.connection() as connection:
            for run in model_runs.runs_of(connection):
                model_runs.change(connection, run.id, state="failed")
        assert prepare(settings, pool, "fifth", request, asked_at=before, progress=Silent()).run_key == "fifth"


def _other_content(pool: Pool) -> None:
    """The dataset that is made next has other rows."""
    with pool.connection() as connection:
        connection.execute("update ragworks.dataset set content_hash = gen_random_uuid()::text")


def test_when_a_run_was_asked_for() -> None:
    events = {"retrain": [SimpleNamespace(timestamp=LONG), SimpleNamespace(timestamp=LATELY)]}
    for conf, found, expected in (({}, events, LATELY), (None, {}, None), ({"asked_at": LONG.isoformat()}, {}, LONG)):
        context: Any = {"dag_run": SimpleNamespace(conf=conf), "triggering_asset_events": found}
        assert asked_at(context) == expected

"""From a collection file's schedule to what Airflow is told, and what a person is told."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import AssetAny, AssetOrTimeSchedule, CronTriggerTimetable

from include.collection_file import Collection
from ragworks.schedules import describe_schedule, schedule_of


def collection(schedule: Any) -> Collection:
    return Collection.model_validate({"name": "wiki", "schedule": schedule, "source": {"type": "files", "path": "docs"}})


def watchers(condition: Any) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """Asset → its triggers, as the triggerer gets them."""
    return {asset.name: [watcher.trigger.serialize() for watcher in asset.watchers] for asset in condition.objects}


TRIGGER = ("ragworks.triggers.source_changes.SourceChangeTrigger", {"collection": "wiki", "seconds": 5})


def test_a_watched_source_is_an_asset_with_a_trigger() -> None:
    schedule = schedule_of(collection({"watch": 5}))
    assert isinstance(schedule, AssetAny)
    assert watchers(schedule) == {"ragworks.wiki.source": [TRIGGER]}


def test_any_one_of_the_assets_and_the_source_is_enough() -> None:
    schedule = schedule_of(collection({"watch": 5, "assets": ["exports"]}))
    assert isinstance(schedule, AssetAny)
    assert watchers(schedule) == {"exports": [], "ragworks.wiki.source": [TRIGGER]}


def test_with_cron_as_well() -> None:
    schedule = schedule_of(collection({"watch": 5, "cron": "0 6 * * *"}))
    assert isinstance(schedule, AssetOrTimeSchedule)
    assert isinstance(schedule.timetable, CronTriggerTimetable)
    assert watchers(schedule.asset_condition) == {"ragworks.wiki.source": [TRIGGER]}


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        (None, "only when asked"),
        ("*/15 * * * *", "`*/15 * * * *` (cron, UTC)"),
        ({"watch": 5}, "when the source is seen to change, looked at every 5 s"),
        ({"assets": ["a", "b"]}, "when one of these assets is updated: `a`, `b`"),
        (
            {"watch": 1.5, "assets": ["a"], "cron": "0 6 * * *"},
            "when the source is seen to change, looked at every 1.5 s; and when one of these assets is updated: `a`;"
            " and at `0 6 * * *` (cron, UTC)",
        ),
    ],
)
def test_a_person_reads_the_same(schedule: Any, text: str) -> None:
    assert describe_schedule(collection(schedule)) == text

"""From the ``schedule`` of a collection file to Airflow's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import Asset, AssetAny, AssetOrTimeSchedule, CronTriggerTimetable

from include.config import AssetSchedule

if TYPE_CHECKING:
    from include.config import Collection

Schedule = CronTriggerTimetable | AssetAny | AssetOrTimeSchedule | None


def schedule_of(collection: Collection) -> Schedule:
    """When the collection's DAG runs: by cron (UTC), when any one of its assets is updated, by both, or only when asked.

    :raises ValueError: Airflow refuses the name of an asset.
    """
    schedule = collection.schedule
    if schedule is None:
        return None
    if isinstance(schedule, AssetSchedule):
        # A list would wait until all of them are updated.
        assets = AssetAny(*(Asset(name) for name in schedule.assets))
        if schedule.cron is None:
            return assets
        return AssetOrTimeSchedule(timetable=_cron(schedule.cron), assets=assets)
    return _cron(schedule)


def describe_schedule(collection: Collection) -> str:
    """The same for a person."""
    schedule = collection.schedule
    if schedule is None:
        return "only when asked"
    if isinstance(schedule, AssetSchedule):
        assets = "when one of these assets is updated: " + ", ".join(f"`{name}`" for name in schedule.assets)
        return f"{assets}; and at `{schedule.cron}` (cron, UTC)" if schedule.cron else assets
    return f"`{schedule}` (cron, UTC)"


def _cron(expression: str) -> CronTriggerTimetable:
    return CronTriggerTimetable(expression, timezone="UTC")

"""From the ``schedule`` of a collection file to Airflow's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import Asset, AssetAny, AssetOrTimeSchedule, CronTriggerTimetable

from include.collection_file import AssetSchedule
from ragworks.assets import alert_asset, feedback_asset, source_asset

if TYPE_CHECKING:
    from include.collection_file import Collection

Schedule = CronTriggerTimetable | AssetAny | AssetOrTimeSchedule | None


def schedule_of(collection: Collection) -> Schedule:
    """When the collection's DAG runs: by cron (UTC), when any one of its assets is updated or its source is seen to change,
    by several of these, or only when asked.

    :raises ValueError: Airflow refuses the name of an asset.
    """
    schedule = collection.schedule
    if schedule is None:
        return None
    if isinstance(schedule, AssetSchedule):
        # A list would wait until all of them are updated.
        assets = AssetAny(*(Asset(name) for name in schedule.assets), *_watched(collection.name, schedule))
        if schedule.cron is None:
            return assets
        return AssetOrTimeSchedule(timetable=_cron(schedule.cron), assets=assets)
    return _cron(schedule)


def monitor_schedule(collection: Collection) -> AssetAny | AssetOrTimeSchedule:
    """When the collection's monitor runs: by cron (UTC), when enough answers were judged, and when something is reported."""
    watched = collection.monitoring
    feedback = feedback_asset(collection.name, watched.minimum_sample, watched.window_hours)
    assets = AssetAny(feedback, alert_asset(collection.name))
    if watched.schedule is None:
        return assets
    return AssetOrTimeSchedule(timetable=_cron(watched.schedule), assets=assets)


def describe_schedule(collection: Collection) -> str:
    """The same for a person."""
    schedule = collection.schedule
    if schedule is None:
        return "only when asked"
    if isinstance(schedule, AssetSchedule):
        return "; and ".join(_occasions(schedule))
    return f"`{schedule}` (cron, UTC)"


def _watched(collection: str, schedule: AssetSchedule) -> list[Asset]:
    return [] if schedule.watch is None else [source_asset(collection, schedule.watch)]


def _occasions(schedule: AssetSchedule) -> list[str]:
    found = []
    if schedule.watch is not None:
        found.append(f"when the source is seen to change, looked at every {schedule.watch:g} s")
    if schedule.assets:
        found.append("when one of these assets is updated: " + ", ".join(f"`{name}`" for name in schedule.assets))
    if schedule.cron is not None:
        found.append(f"at `{schedule.cron}` (cron, UTC)")
    return found


def _cron(expression: str) -> CronTriggerTimetable:
    return CronTriggerTimetable(expression, timezone="UTC")

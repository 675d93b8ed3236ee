"""Writes the page of a week after a monitor has measured: nothing waits for it, and it stops nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, BaseOperatorLink

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context
    from airflow.sdk.types import TaskInstanceKey


class WeeklyPageLink(BaseOperatorLink):
    """From a run to the page that it wrote, which Airflow's API server shows to who may see the DAG."""

    name = "Page of the week"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """The address; empty while there is no page."""
        del ti_key
        return getattr(operator, "link", "")


class ReportWeekOperator(BaseOperator):
    """Write the page of the week of the newest measurement to the artifacts, anew while the week goes on.

    Returns where it lies, which the log says too; the task's link shows it.

    :param collection: name of the collection (templated).
    :param week: as ``2026-W48``; empty: that of the newest measurement (templated).
    """

    template_fields: Sequence[str] = ("collection", "week")
    operator_extra_links = (WeeklyPageLink(),)
    ui_color = "#f3e8fd"

    def __init__(self, *, collection: str, week: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.collection = collection
        self.week = week
        self.link = ""

    def execute(self, context: Context) -> str:
        """Write it.

        :raises BadConfiguration: it is no week, or the artifacts cannot be written.
        """
        from airflow.sdk.configuration import conf

        from include.monitoring.weekly import newest_week, publish_weekly_report
        from include.store.pool import open_pool
        from ragworks.hooks.ragworks import settings_from_airflow

        settings = settings_from_airflow()
        with open_pool(settings) as pool:
            week = self.week or newest_week(pool, self.collection)
            page = publish_weekly_report(settings, pool, self.collection, week)
        self.link = f"{conf.get('api', 'base_url', fallback='').rstrip('/')}/ragworks/weeks/{self.collection}/{week}"
        self.log.info("Signals, breaches and decisions of the week: %s", page)
        return page

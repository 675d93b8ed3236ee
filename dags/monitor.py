"""One DAG per collection: measure, tell, ask, act, report. Trainings begin by event: the triggerer claims what was decided."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG

from include.config import Settings
from ragworks import defaults
from ragworks.catalogue import read_catalogue
from ragworks.manual import describe_monitor
from ragworks.operators.monitoring import ActOperator, ApproveDecisionOperator, MeasureOperator, TellOperator
from ragworks.operators.weekly import ReportWeekOperator
from ragworks.params import monitor_params
from ragworks.schedules import monitor_schedule

if TYPE_CHECKING:
    from include.collection_file import Collection


def monitor_dag(collection: Collection) -> DAG:
    """Watch one collection."""
    name = collection.name
    with DAG(
        dag_id=f"monitor_{name}",
        description=f"Watch {name}: what is measured, when it counts, what is done about it",
        doc_md=describe_monitor(collection),
        schedule=monitor_schedule(collection),
        catchup=False,
        params=monitor_params(),
        max_active_runs=2,  # one may wait days for a person, while the next one measures
        tags=["ragworks", "monitoring", name],
        default_args=defaults.default_args(),
        deadline=defaults.deadline(timedelta(hours=collection.training.approval_hours) + defaults.DEADLINE),
    ) as dag:
        measure = MeasureOperator(task_id="measure", collection=name)
        tell = TellOperator(task_id="tell", collection=name)
        approve = ApproveDecisionOperator(task_id="approve", collection=name)
        act = ActOperator(task_id="act", collection=name)
        report = ReportWeekOperator(task_id="report", collection=name)
        measure >> [tell, approve, report]  # a channel that is away keeps nobody from being asked
        approve >> act
        TriggerDagRunOperator.partial(
            task_id="reindex", trigger_dag_id=f"index_{name}", skip_when_already_exists=True
        ).expand_kwargs(act.output)
    return dag


for _collection in read_catalogue(Settings.from_environment())[0]:
    monitor_dag(_collection)

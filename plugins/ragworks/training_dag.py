"""The shape that the training of every family has: what is done, in which order, and who may stop it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, AssetOrTimeSchedule, CronTriggerTimetable

from ragworks import defaults
from ragworks.assets import champion_asset, retrain_asset
from ragworks.manual import describe_training
from ragworks.operators.gpu import GpuTaskOperator
from ragworks.operators.training import (
    ApproveModelOperator,
    BaselineOperator,
    CheckTrainingDataOperator,
    ChooseCollectionOperator,
    JudgeModelOperator,
    PrepareTrainingOperator,
    PromoteModelOperator,
    VerifyModelOperator,
)
from ragworks.training_form import training_params

if TYPE_CHECKING:
    from airflow.sdk import Asset

    from include.config import Settings


def training_dag(family: str, settings: Settings, *, description: str) -> DAG:
    """The DAG ``train_<family>``: data, check, baseline, train, evaluate, gate, approve, promote, verify.

    It runs from its form, when ``ragworks.<family>.retrain`` is updated, and by the cron expression of
    ``RAGWORKS_TRAIN_<FAMILY>_CRON``.
    """
    dag_id = f"train_{family}"
    with DAG(
        dag_id=dag_id,
        description=description,
        doc_md=describe_training(family, description),
        schedule=_schedule(family, settings),
        catchup=False,
        max_active_runs=1,  # a second training of the same data would find the first one, and is skipped
        params=training_params(family, settings),
        tags=["ragworks", "training", family],
        default_args=defaults.default_args(),
        deadline=defaults.training_deadline(),
    ) as dag:
        collection = ChooseCollectionOperator(task_id="collection")
        TriggerDagRunOperator.partial(task_id="other_collections", trigger_dag_id=dag_id).expand(conf=collection.output)
        data = PrepareTrainingOperator(task_id="data", family=family)
        check = CheckTrainingDataOperator(task_id="check", family=family)
        baseline = BaselineOperator(task_id="baseline", family=family)
        train = GpuTaskOperator(
            task_id="train",
            family=family,
            step="train",
            execution_timeout=defaults.TRAIN_TIMEOUT,
            retries=defaults.TRAIN_RETRIES,
        )
        evaluate = GpuTaskOperator(task_id="evaluate", family=family, step="evaluate", execution_timeout=defaults.TRAIN_TIMEOUT)
        gate = JudgeModelOperator(task_id="gate", family=family)
        approve = ApproveModelOperator(task_id="approve", family=family)
        promote = PromoteModelOperator(
            task_id="promote", family=family, execution_timeout=defaults.EMBED_TIMEOUT, outlets=[champion_asset(family)]
        )
        verify = VerifyModelOperator(task_id="verify", family=family)
        collection >> data >> check >> baseline >> train >> evaluate >> gate >> approve >> promote >> verify
    return dag


def _schedule(family: str, settings: Settings) -> Asset | AssetOrTimeSchedule:
    asked = retrain_asset(family)
    cron = dict(settings.training_crons).get(family)
    if cron is None:
        return asked
    return AssetOrTimeSchedule(timetable=CronTriggerTimetable(cron, timezone="UTC"), assets=asked)

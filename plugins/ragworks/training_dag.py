"""The shape that the training of every family has: what is done, in which order, and who may stop it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, AssetOrTimeSchedule, CronTriggerTimetable, chain

from ragworks import defaults
from ragworks.assets import champion_asset, retrain_asset
from ragworks.manual import describe_training
from ragworks.operators.gpu import GpuTaskOperator
from ragworks.operators.training import (
    ApproveModelOperator,
    BaselineOperator,
    CheckTrainingDataOperator,
    ChooseCollectionOperator,
    CloseTrainingOperator,
    EstimateOperator,
    JudgeModelOperator,
    PrepareTrainingOperator,
    PromoteModelOperator,
    VerifyModelOperator,
)
from ragworks.training_form import training_params

if TYPE_CHECKING:
    from airflow.sdk import Asset, BaseOperator

    from include.config import Settings

DAG_IDS = {"reranker": "train_reranker", "embedder": "train_embedder", "llm": "finetune_llm"}


def training_dag(family: str, settings: Settings, *, description: str) -> DAG:
    """The DAG of a family: data, check, baseline, train, evaluate, gate, approve, promote, verify, close.

    That of a language model tells beforehand what the training takes, and merges adapters after it. A DAG runs from its form,
    when ``ragworks.<family>.retrain`` is updated, and by the cron expression of ``RAGWORKS_TRAIN_<FAMILY>_CRON``.
    """
    dag_id = DAG_IDS[family]
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
        of_llm = family == "llm"
        before, after = _of_language_model() if of_llm else ([BaselineOperator(task_id="baseline", family=family)], [])
        train = GpuTaskOperator(
            task_id="train",
            family=family,
            step="train",
            gpus="{{ params.gpus }}" if of_llm else None,
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
        close = CloseTrainingOperator(task_id="close", family=family).as_teardown()
        chain(collection, data, check, *before, train, *after, evaluate, gate, approve, promote, verify, close)
    return dag


def _of_language_model() -> tuple[list[BaseOperator], list[BaseOperator]]:
    """What comes before and after its training. What asks such a model needs a GPU as well."""
    family, timeout = "llm", defaults.TRAIN_TIMEOUT
    before = [
        EstimateOperator(task_id="estimate", family=family),
        GpuTaskOperator(task_id="baseline", family=family, step="baseline", execution_timeout=timeout),
    ]
    return before, [GpuTaskOperator(task_id="merge", family=family, step="merge", execution_timeout=timeout)]


def _schedule(family: str, settings: Settings) -> Asset | AssetOrTimeSchedule:
    asked = retrain_asset(family)
    cron = dict(settings.training_crons).get(family)
    if cron is None:
        return asked
    return AssetOrTimeSchedule(timetable=CronTriggerTimetable(cron, timezone="UTC"), assets=asked)

"""One DAG per collection file: plan, index (a task a worker), validate, publish, evaluate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import DAG

from include.config import Settings
from ragworks import defaults
from ragworks.assets import index_asset
from ragworks.catalogue import read_catalogue
from ragworks.manual import describe_broken, describe_collection
from ragworks.operators.evaluation import EvaluateIndexOperator
from ragworks.operators.indexing import (
    IndexShardOperator,
    PlanIndexOperator,
    PublishIndexOperator,
    RefusedCollectionOperator,
    ValidateIndexOperator,
)
from ragworks.params import index_params
from ragworks.schedules import schedule_of

if TYPE_CHECKING:
    from include.collection_file import Collection
    from ragworks.catalogue import BrokenFile


MODE = "{{ params.mode }}"


def index_dag(collection: Collection) -> DAG:
    """Keep one collection's index in step with its source."""
    name = collection.name
    with DAG(
        dag_id=f"index_{name}",
        description=collection.description or f"Keep the index of {name} in step with its source",
        doc_md=describe_collection(collection),
        schedule=schedule_of(collection),
        catchup=False,
        max_active_runs=2,  # a second run keeps the live index fresh while the first builds a new generation for hours
        params=index_params(),
        tags=["ragworks", name],
        default_args=defaults.default_args(),
        deadline=defaults.deadline(),
    ) as dag:
        plan = PlanIndexOperator(
            task_id="plan",
            collection=name,
            mode=MODE,
            allow_deletes="{{ params.allow_deletes }}",
            acknowledge="{{ params.acknowledge }}",
            workers="{{ params.workers }}",
        )
        index = IndexShardOperator.partial(
            task_id="index",
            collection=name,
            execution_timeout=defaults.EMBED_TIMEOUT,
            map_index_template="worker {{ task.shard + 1 }}",
        ).expand(shard=plan.output)
        # With nothing to embed there is no index task, but documents may have gone or moved.
        validate = ValidateIndexOperator(task_id="validate", collection=name, mode=MODE, trigger_rule="none_failed")
        publish = PublishIndexOperator(task_id="publish", collection=name, mode=MODE, outlets=[index_asset(name)])
        evaluate = EvaluateIndexOperator(task_id="evaluate", collection=name)
        index >> validate >> publish >> evaluate
    return dag


def broken_dag(broken: BrokenFile) -> DAG:
    """Show in the UI what is wrong with a collection file."""
    with DAG(
        dag_id=f"index_{broken.name}",
        description=f"{broken.path.name} cannot be used",
        doc_md=describe_broken(broken),
        schedule=None,
        catchup=False,
        max_active_runs=1,
        tags=["ragworks", "broken", broken.name],
        default_args=defaults.default_args(),
    ) as dag:
        RefusedCollectionOperator(task_id="collection_file", error=str(broken.error))
    return dag


_collections, _broken = read_catalogue(Settings.from_environment())
for _collection in _collections:
    index_dag(_collection)
for _file in _broken:
    broken_dag(_file)

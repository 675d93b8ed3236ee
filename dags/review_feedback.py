"""Review feedback in Airflow: a form with the oldest open judgements of a collection, one run a batch."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from include.collection_file import collection_names
from include.config import Settings
from ragworks import defaults
from ragworks.manual import describe_review
from ragworks.operators.feedback import ANSWER_TIME, ReviewFeedbackOperator
from ragworks.params import review_params

DESCRIPTION = "Ask a person what is to be learned from what users said"

with DAG(
    dag_id="review_feedback",
    description=DESCRIPTION,
    doc_md=describe_review(DESCRIPTION),
    schedule=None,
    catchup=False,
    max_active_runs=1,
    params=review_params(collection_names(Settings.from_environment())),
    tags=["ragworks", "feedback"],
    default_args=defaults.default_args(),
    deadline=defaults.deadline(ANSWER_TIME + timedelta(days=1)),
) as dag:
    ReviewFeedbackOperator(
        task_id="review",
        collection="{{ params.collection }}",
        batch="{{ params.batch }}",
        texts="{{ params.texts }}",
    )

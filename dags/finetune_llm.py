"""Fine-tune the language model, prove it better, put it to work: the steps stand in plugins/ragworks/training_dag.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.config import Settings
from ragworks.training_dag import training_dag

if TYPE_CHECKING:
    from airflow.sdk import DAG

DESCRIPTION = "Fine-tune the language model on conversations about a collection, and answer with it if it is proved better"

dag: DAG = training_dag("llm", Settings.from_environment(), description=DESCRIPTION)

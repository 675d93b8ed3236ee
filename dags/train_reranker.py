"""Train the reranker, prove it better, put it to work: the steps stand in plugins/ragworks/training_dag.py."""

from __future__ import annotations

from include.config import Settings
from ragworks.training_dag import training_dag

DESCRIPTION = "Train a reranker on questions of a collection, and serve it if it is proved better"

training_dag("reranker", Settings.from_environment(), description=DESCRIPTION)

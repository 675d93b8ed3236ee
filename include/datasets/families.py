"""What the data of each family of models can be told. DAG files import this: nothing heavy may come in here."""

from __future__ import annotations

from include.datasets.conversations.options import LlmDataOptions
from include.datasets.options import DatasetOptions


def data_options(family: str) -> type[DatasetOptions] | type[LlmDataOptions]:
    """Conversations for a language model; pairs of a question and its passage for the others."""
    return LlmDataOptions if family == "llm" else DatasetOptions

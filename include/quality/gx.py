"""Imports Great Expectations quietly: it takes 3.5 s, logs hundreds of lines, and would report its use to its makers."""

from __future__ import annotations

import logging
import os
from functools import lru_cache
from typing import Any

_CHATTY = ("_docs_decorators", "expectations.registry", "data_context.types.base")


@lru_cache(maxsize=1)
def load() -> Any:
    """The module, with its expectations as ``module.expectations``."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        import great_expectations
        import great_expectations.expectations
    finally:
        logging.disable(before)
    for name in _CHATTY:  # importing them set INFO
        logging.getLogger(f"great_expectations.{name}").setLevel(logging.ERROR)
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    return great_expectations


@lru_cache(maxsize=1)
def batch_definition() -> Any:
    """What turns a frame into a batch: one ephemeral context a process, since making one costs more than a validation."""
    gx = load()
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    return context.data_sources.add_pandas("ragworks").add_dataframe_asset("batch").add_batch_definition_whole_dataframe("all")

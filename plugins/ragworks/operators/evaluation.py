"""Scores what an index run has just published, so that a figure stands beside every state of the index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from ragworks.operators.indexing import RUN_KEY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context


class EvaluateIndexOperator(BaseOperator):
    """Ask the live generation the collection's golden queries and keep the report, as `ragworks evaluate` does.

    Low scores fail nothing: what may go live is decided before, by the gate of a new generation. Skipped, with the reason
    in the log, when there is no golden query to ask.

    :param collection: name of the collection (templated).
    :param run_key: names the run after which this happens (templated).
    """

    template_fields: Sequence[str] = ("collection", "run_key")
    ui_color = "#f3e8fd"

    def __init__(self, *, collection: str, run_key: str = RUN_KEY, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.collection = collection
        self.run_key = run_key

    def execute(self, context: Context) -> None:
        """Evaluate.

        :raises AirflowSkipException: there is no golden query to ask.
        """
        from include.evaluation.evaluate import NothingToAsk, Options, evaluate, summary
        from include.progress import Silent
        from include.store.pool import open_pool
        from ragworks.hooks.ragworks import settings_from_airflow

        settings = settings_from_airflow()
        with open_pool(settings) as pool:
            try:
                found = evaluate(settings, pool, self.collection, Options(run_key=self.run_key), progress=Silent())
            except NothingToAsk as nothing:
                raise AirflowSkipException(str(nothing)) from nothing
        self.log.info("Evaluation %d of %s, generation %s", found.id, self.collection, found.generation_id)
        self.log.info("%s", summary(found.report))

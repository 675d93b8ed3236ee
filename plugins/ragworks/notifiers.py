"""What is said when a run needs a person. Airflow's triggerer imports these by name."""

from __future__ import annotations

import logging
from collections.abc import Mapping  # noqa: TC003 - Airflow reads the signature at run time
from typing import Any

logger = logging.getLogger(__name__)


async def report_missed_deadline(context: Mapping[str, Any] | None = None) -> str:
    """Log an error that names the DAG and the run and says what to do; Airflow keeps the text with the deadline.

    :param context: what Airflow hands to deadline callbacks: ``dag_run`` and ``deadline``.
    """
    run = (context or {}).get("dag_run") or {}
    deadline = (context or {}).get("deadline") or {}
    message = (
        f"DAG {run.get('dag_id', 'unknown')}, run {run.get('dag_run_id', 'unknown')}: not finished at its deadline"
        f" {deadline.get('deadline_time', '')} (state {run.get('state', 'unknown')}). Queries are still answered from the"
        " last published index. Look at the log of the run's running or failed task; a run that is cleared or triggered"
        " again goes on where this one stopped."
    )
    logger.error(message)
    return message

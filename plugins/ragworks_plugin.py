"""The one Airflow plugin of the project: what Airflow must be told about stands here."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin


class RagworksPlugin(AirflowPlugin):
    """Ragworks inside Airflow."""

    name = "ragworks"

"""MLflow on the schema `mlflow` of the same database: no server runs, and no second database is asked for."""

from __future__ import annotations

import logging
import os
import warnings
from typing import TYPE_CHECKING, Any

import psycopg
from sqlalchemy.engine import make_url

from include.store.mlflow_schema import SCHEMA, hold_schema
from include.store.pool import database_url

if TYPE_CHECKING:
    from include.config import Settings

WAIT_MS = 10_000  # for a lock on MLflow's tables: nobody who promotes or rolls back hangs on them


def mlflow_client(settings: Settings) -> Any:
    """A client; makes the schema and MLflow's tables when they are missing.

    :return: ``mlflow.MlflowClient``, for runs and for the registry.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # the making of its tables is no news
    url = database_url(settings)
    options = f"-csearch_path={SCHEMA} -clock_timeout={WAIT_MS}"
    address = make_url(url).set(drivername="postgresql+psycopg").update_query_dict({"options": options})
    store = address.render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hold_schema(connection)
        client = MlflowClient(tracking_uri=store, registry_uri=store)
        client.search_registered_models(max_results=1)  # opens the registry's tables too, which comes late else
        return client

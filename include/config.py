"""The one place that reads the environment; everything below receives frozen models."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, cast, get_args

from pydantic import BaseModel, ConfigDict, Field

from include.errors import BadConfiguration

PROJECT_ROOT = Path(__file__).resolve().parent.parent
Environment = Literal["dev", "staging", "production"]
ENVIRONMENTS = get_args(Environment)
FAMILIES = ("reranker", "embedder", "llm")  # of models that are trained
LLM_SERVER = "http://127.0.0.1:8010/v1"  # where `ragworks serve-llm` listens by default


class Settings(BaseModel):
    """Where things are on this machine.

    :param database_url: Postgres URL; None means the embedded server under ``home``.
    :param home: state of the embedded stack: data folder, logs, secrets.
    :param collections_dir: folder of collection files.
    :param artifacts: fsspec URL for models and reports.
    :param compute: where training commands run.
    :param environment: which champions count: a model is promoted in one environment.
    :param gpu_price_per_hour: of local training, for its cost; profiles of pods name their own.
    :param gpu_profile: the pod profile that this process runs under, for the manifest; None outside of one.
    :param training_crons: (family, cron expression): when the family's DAG runs by itself.
    :param embedding_api_key: bearer token of an OpenAI-compatible embeddings endpoint.
    :param llm_base_url: OpenAI-compatible endpoint that writes answers; None: answers are extracted, and say so.
    :param llm_model: its model.
    :param llm_api_key: its bearer token.
    :param llm_server: where the champions of family llm are served: `ragworks serve-llm`, or vLLM with its manifests.
    :param llm_server_key: its bearer token.
    """

    model_config = ConfigDict(frozen=True)

    database_url: str | None = Field(default=None, repr=False)
    home: Path = PROJECT_ROOT / ".ragworks"
    collections_dir: Path = PROJECT_ROOT / "include" / "collections"
    artifacts: str = ""
    compute: Literal["local", "kubernetes"] = "local"
    environment: Environment = "production"
    gpu_price_per_hour: float | None = None
    gpu_profile: str | None = None
    training_crons: tuple[tuple[str, str], ...] = ()
    embedding_api_key: str | None = Field(default=None, repr=False)
    llm_base_url: str | None = None
    llm_model: str | None = None
    llm_api_key: str | None = Field(default=None, repr=False)
    llm_server: str = LLM_SERVER
    llm_server_key: str | None = Field(default=None, repr=False)

    @classmethod
    def from_environment(cls, database_url: str | None = None) -> Settings:
        """Read ``RAGWORKS_*``; ``database_url`` (the Airflow connection) wins over the environment."""
        home = _absolute(os.environ.get("RAGWORKS_HOME") or ".ragworks")
        compute = os.environ.get("RAGWORKS_COMPUTE") or "local"
        if compute not in ("local", "kubernetes"):
            raise BadConfiguration("RAGWORKS_COMPUTE", f"{compute!r} is not a place to run", "Use local or kubernetes")
        environment = os.environ.get("RAGWORKS_ENV") or "production"
        if environment not in ENVIRONMENTS:
            fix = f"Use one of {', '.join(ENVIRONMENTS)}"
            raise BadConfiguration("RAGWORKS_ENV", f"{environment!r} is not an environment", fix)
        return cls(
            environment=cast("Environment", environment),
            gpu_price_per_hour=_price("RAGWORKS_GPU_PRICE_PER_HOUR"),
            gpu_profile=os.environ.get("RAGWORKS_GPU_PROFILE") or None,
            training_crons=tuple((f, c) for f in FAMILIES if (c := _cron(f"RAGWORKS_TRAIN_{f.upper()}_CRON"))),
            database_url=database_url or os.environ.get("RAGWORKS_DATABASE_URL") or None,
            home=home,
            collections_dir=_absolute(os.environ.get("RAGWORKS_COLLECTIONS_DIR") or "include/collections"),
            artifacts=os.environ.get("RAGWORKS_ARTIFACTS") or (home / "artifacts").as_uri(),
            compute="kubernetes" if compute == "kubernetes" else "local",
            embedding_api_key=os.environ.get("RAGWORKS_EMBEDDING_API_KEY") or None,
            llm_base_url=os.environ.get("RAGWORKS_LLM_BASE_URL") or None,
            llm_model=os.environ.get("RAGWORKS_LLM_MODEL") or None,
            llm_api_key=os.environ.get("RAGWORKS_LLM_API_KEY") or None,
            llm_server=os.environ.get("RAGWORKS_LLM_SERVER") or LLM_SERVER,
            llm_server_key=os.environ.get("RAGWORKS_LLM_SERVER_KEY") or None,
        )


def _price(variable: str) -> float | None:
    value = os.environ.get(variable)
    try:
        price = float(value) if value else None
    except ValueError:
        price = -1.0
    if price is not None and not 0 <= price < float("inf"):
        raise BadConfiguration(variable, f"{value!r} is not a price", "Write a number, for example 2.5")
    return price


def _cron(variable: str) -> str | None:
    from croniter import croniter

    value = os.environ.get(variable) or None
    if value is not None and not croniter.is_valid(value):
        raise BadConfiguration(variable, f"{value!r} is not a cron expression", "An example is '0 3 * * 0'")
    return value


def _absolute(path: str) -> Path:
    """Relative settings are relative to the project, so that a command means the same from any folder."""
    return PROJECT_ROOT / Path(path).expanduser()


def connection_variable(conn_id: str) -> str | None:
    """The variable in which Airflow too looks for a connection first, a URI or JSON: the command line has no other place."""
    return os.environ.get(f"AIRFLOW_CONN_{conn_id.upper()}") or None

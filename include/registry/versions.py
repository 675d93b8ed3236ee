"""Trained models in MLflow's registry: it gives the version numbers, and shows people what was trained and what serves.

What serves is said by the table `deployment` alone; aliases follow it (docs/decisions/0018). So nothing here is needed to
answer queries, or to go back.
"""

from __future__ import annotations

import json
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from include.errors import BadData, ServiceUnavailable
from include.registry.mlflow_client import mlflow_client
from include.registry.stores import shown_url
from include.store import collections, deployments, model_runs, model_versions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from include.config import Settings
    from include.store.model_runs import ModelRun
    from include.store.pool import Connection, Pool

logger = logging.getLogger(__name__)

RUN_KEY = "ragworks.run_key"  # the tag by which a training's version is found again
CHAMPION, CHALLENGER = "champion", "challenger"
PARAMETERS, CHARACTERS = 100, 5000  # that MLflow takes at once, and of a value
PAGE = 1000


def registered_name(environment: str, family: str, collection: str) -> str:
    """What a registered model is called."""
    return f"{environment}.{family}.{collection}"


def register(settings: Settings, pool: Pool, run_key: str) -> int:
    """The version of a training in this environment, made when there is none; however often, and by however many processes.

    :raises BadData: there is no such training, or it has left no model.
    :raises ServiceUnavailable: MLflow's tables cannot be written.
    """
    environment = settings.environment
    with pool.connection() as connection:
        run = model_runs.by_key(connection, run_key)
        known = model_versions.number_of(connection, environment, run.id)
        collection = collections.collection_name(connection, run.collection_id)
    if known is not None:
        return known
    if run.artifact is None:
        raise BadData(f"training {run_key} cannot be registered", f"it is {run.state}, without a model", "Let it end first")
    with pool.connection() as connection, connection.transaction():
        model_versions.lock(connection, run.collection_id)
        known = model_versions.number_of(connection, environment, run.id)
        if known is not None:
            return known
        facts = _facts(connection, run)
        with _service():
            version = _version_of(settings, registered_name(environment, run.family, collection), run, facts)
        model_versions.save(connection, environment, run, version)
        if run.version is None:
            model_runs.change(connection, run.id, version=version)
    logger.info("training %s is version %d of the %s of %s in %s", run_key, version, run.family, collection, environment)
    sync_aliases(settings, pool, run.family, collection)
    return version


def sync_aliases(settings: Settings, pool: Pool, family: str, collection: str) -> bool:
    """Have MLflow's aliases say what the table of deployments says; what was missed while MLflow was away is made good.

    :return: False, with a warning, when MLflow cannot be written: nothing else depends on it.
    """
    wanted = aliases(settings, pool, family, collection)
    if not wanted:
        return True
    name = registered_name(settings.environment, family, collection)
    try:
        with _service():
            client = mlflow_client(settings)
            there = client.get_registered_model(name).aliases
            for alias, version in wanted.items():
                if version is None and alias in there:
                    client.delete_registered_model_alias(name, alias)
                elif version is not None and str(there.get(alias)) != str(version):
                    client.set_registered_model_alias(name, alias, str(version))
    except ServiceUnavailable as error:
        logger.warning("the aliases of %s in MLflow are not up to date, `ragworks models` tries again: %s", name, error.why)
        return False
    return True


def aliases(settings: Settings, pool: Pool, family: str, collection: str) -> dict[str, int | None]:
    """Which version each alias should stand for; empty when nothing was registered.

    The challenger is what is being promoted, else the newest that was not refused and never served.
    """
    with pool.connection() as connection:
        collection_id = collections.collection_id(connection, collection)
        known = model_versions.versions(connection, settings.environment, family, collection_id)
        if not known:
            return {}
        history = deployments.history(connection, settings.environment, family, collection_id)
    live = next((one for one in history if one.state == "live"), None)
    waiting = next((one.version for one in history if one.state == "pending"), None)
    tried = {one.model_run_id for one in history}
    newest = next((v.version for v in known if v.run.id not in tried and v.run.state not in ("refused", "failed")), None)
    return {CHAMPION: live.version if live else None, CHALLENGER: waiting or newest}


def _version_of(settings: Settings, name: str, run: ModelRun, facts: Mapping[str, Any]) -> int:
    """Found by its tag, also when a process died after MLflow had made it; else made."""
    from mlflow.exceptions import MlflowException

    client = mlflow_client(settings)
    try:
        client.create_registered_model(name, tags={"family": run.family})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    for version in _all_versions(client, name):
        if version.tags.get(RUN_KEY) == run.run_key:
            return int(version.version)
    mlflow_run = _logged(client, settings, name, run, facts)
    tags = {RUN_KEY: run.run_key, "fingerprint": run.fingerprint or "", **_tags(run, facts)}
    source = f"{shown_url(settings.artifacts).rstrip('/')}/{(run.artifact or '').removeprefix('artifacts:')}"
    return int(client.create_model_version(name, source=source, run_id=mlflow_run, tags=tags).version)


def _all_versions(client: Any, name: str) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_model_versions(f"name='{name}'", max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _logged(client: Any, settings: Settings, name: str, run: ModelRun, facts: Mapping[str, Any]) -> str:
    """The id of MLflow's run, with parameters, metrics and tags; the one that is there already if a process died here."""
    from mlflow.entities import Metric, Param, RunTag

    experiment = client.get_experiment_by_name(name)
    where = f"{shown_url(settings.artifacts).rstrip('/')}/mlflow"
    found = experiment.experiment_id if experiment else client.create_experiment(name, artifact_location=where)
    there = client.search_runs([found], filter_string=f"tags.`{RUN_KEY}` = '{run.run_key}'", max_results=1)
    if there and there[0].info.status == "FINISHED":
        return str(there[0].info.run_id)
    tags = {RUN_KEY: run.run_key, **_tags(run, facts)}
    made = there[0] if there else client.create_run(found, run_name=run.run_key, tags=tags)
    moment = int((run.finished_at or run.created_at).timestamp() * 1000)
    numbers = {name: number for part, value in _parts(run).items() for name, number in _numbers(part, value).items()}
    parameters = [Param(key, _short(value)) for key, value in {"base": run.base, **run.arguments}.items()][:PARAMETERS]
    client.log_batch(
        made.info.run_id,
        metrics=[Metric(key, value, moment, 0) for key, value in numbers.items()],
        params=parameters,
        tags=[RunTag(key, value) for key, value in tags.items()],
    )
    client.set_terminated(made.info.run_id)
    return str(made.info.run_id)


def _tags(run: ModelRun, facts: Mapping[str, Any]) -> dict[str, str]:
    tags = {
        "verdict": run.state, "work_hash": run.work_hash, "code_version": run.code_version, "base": run.base,
        "base_fingerprint": run.base_fingerprint, **facts,
    }  # fmt: skip
    return {key: _short(value) for key, value in tags.items()}


def _facts(connection: Connection, run: ModelRun) -> dict[str, Any]:
    """Of the data that it was trained on."""
    if run.dataset_id is None:
        return {}
    from include.store import datasets

    data = datasets.dataset(connection, run.dataset_id)
    return {"dataset": data.name, "dataset_version": data.version, "dataset_content_hash": data.content_hash}


def _parts(run: ModelRun) -> dict[str, Any]:
    """What of the reports goes to MLflow: figures, and nothing whose name comes from documents or questions."""
    before, found = run.baseline or {}, run.evaluation or {}
    sides = {f"evaluation.{side}": (found.get(side) or {}).get("measures") for side in ("champion", "challenger")}
    return {
        "baseline": before.get("measures"), "baseline.latency": before.get("latency"), **sides,
        "evaluation.latency": found.get("latency"), "training": run.training,
    }  # fmt: skip


def _numbers(prefix: str, value: Any) -> dict[str, float]:
    """All numbers in nested mappings by their path; `@`, which MLflow does not take, becomes `_at_`."""
    if isinstance(value, bool) or value is None:
        return {}
    if isinstance(value, int | float):
        return {prefix[:250]: float(value)}
    if not isinstance(value, dict):
        return {}
    found: dict[str, float] = {}
    for key, inner in value.items():
        name = "".join(c if c.isalnum() or c in "_-./ " else "_" for c in str(key).replace("@", "_at_"))
        found |= _numbers(f"{prefix}.{name}", inner)
    return dict(list(found.items())[:PAGE])


def _short(value: Any) -> str:
    return (value if isinstance(value, str) else json.dumps(value, default=str))[:CHARACTERS]


@contextmanager
def _service() -> Iterator[None]:
    """Whatever MLflow fails with is a service that is not there."""
    import psycopg
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, psycopg.Error) as error:
        why = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ServiceUnavailable(
            "MLflow's registry cannot be used", why, "Look at the schema mlflow of the database, then run again"
        ) from error

"""One attempt at a training, from its row to the saved model; however often it is asked for, it is done once."""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

import psycopg

from include.embedding import models
from include.errors import BadConfiguration, BadData, RagworksError, Transient
from include.hashing import canonical_json, text_hash
from include.registry.artifacts import local_model, model_path, publish
from include.registry.stores import FULL
from include.store import collections, datasets, model_runs, training_locks
from include.store.errors import translate
from include.training.arguments import arguments_of
from include.training.checkpoints import Checkpoints, safe_name
from include.training.hardware import this_machine
from include.training.interruption import Interruption
from include.training.job import Job
from include.training.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from include.config import Settings
    from include.progress import Progress
    from include.store.model_runs import ModelRun
    from include.store.pool import Connection, Pool
    from include.training.job import Trained

logger = logging.getLogger(__name__)

DONE = ("trained", "evaluated", "accepted", "refused")
# family → (module, function) that takes a Job and returns a Trained; imported when it is trained.
TRAINERS = {
    "embedder": ("include.training.embedder", "train_embedder"),
    "llm": ("include.training.llm.finetune", "train_llm"),
    "reranker": ("include.training.reranker", "train_reranker"),
}


def train(settings: Settings, pool: Pool, run_key: str, *, progress: Progress) -> ModelRun:
    """Train what was planned under a key, or go on with it; a finished training returns at once.

    :raises Interrupted: somebody asked to stop; asking again goes on.
    :raises Transient: another process trains under this key, or the store or the database is away.
    :raises Terminal: the arguments, the base or the data cannot be used.
    """
    with pool.connection() as connection:
        run = model_runs.by_key(connection, run_key)
    with training_locks.training(pool, run.id) as connection:
        if connection is None:
            raise Transient(f"training {run_key} is going on in another process", "", "Wait for that one, or stop it")
        run = model_runs.by_key(connection, run_key)  # the process before may just have finished it
        if run.state == "failed" and run.artifact:  # a later step failed: what was trained is there, and is not trained again
            model_runs.change(connection, run.id, state="trained", error=None)
            run = model_runs.by_key(connection, run_key)
        if run.state in DONE and run.artifact:
            logger.info("training %s is %s already", run_key, run.state)
            return run
        with _noting(connection, run):
            _attempt(settings, pool, connection, run, progress)
        return model_runs.by_key(connection, run_key)


def _attempt(settings: Settings, pool: Pool, connection: Connection, run: ModelRun, progress: Progress) -> None:
    # 1. What is to be done, and with what: nothing heavy is loaded before all of it is known to be there.
    arguments = arguments_of(run.family, run.arguments)
    base = base_folder(settings, run)
    if run.dataset_id is None:
        raise BadData(f"training {run.run_key}", "its dataset was removed", "Plan another training")
    dataset = datasets.dataset(connection, run.dataset_id)
    collection = collections.collection_name(connection, run.collection_id)
    # 2. Where: the machine, the checkpoints, a folder that no other attempt uses.
    hardware = this_machine(getattr(arguments, "gpus", None if settings.gpu_profile else 1))
    checkpoints = Checkpoints(settings, run.run_key)
    whole = checkpoints.store.staging(safe_name(run.run_key))  # with what a killed attempt left there, which goes
    staging = whole / f"attempt-{run.attempts + 1}"  # fingerprints of a process are remembered by folder
    staging.mkdir()
    interruption = Interruption()
    try:
        on = hardware.as_json() | ({"profile": settings.gpu_profile} if settings.gpu_profile else {})
        run = _begin(connection, run, on, dataset.content_hash)
        ledger = Ledger(connection, run, hardware, settings.gpu_price_per_hour)
        job = Job(
            settings, pool, run, collection, dataset, arguments, base, hardware, staging, checkpoints, ledger, interruption,
            progress,
        )  # fmt: skip
        # 3. Train.
        with interruption.listening(), _room(staging):
            trained = _trainer(run.family)(job)
        # 4. The model to its place, then all that is known of it in one write.
        artifact = _save(job, trained)
        ledger.note(
            {**trained.details, "settings": trained.settings, "kind": trained.kind}, state="trained", step=trained.step,
            artifact=artifact, fingerprint=trained.fingerprint, error=None, finished_at="now",
        )  # fmt: skip
    finally:
        shutil.rmtree(whole, ignore_errors=True)
    logger.info("training %s is done: %s", run.run_key, artifact)


def base_folder(settings: Settings, run: ModelRun) -> Path | None:
    """The folder of the model that a training starts from, None when it starts from nothing.

    :raises BadConfiguration: there is no such model.
    :raises BadData: it is not the one that the training was planned with.
    """
    if not run.base:
        return None
    folder, fingerprint = _llm_base(settings, run) if run.family == "llm" else _other_base(settings, run)
    if fingerprint != run.base_fingerprint:
        raise BadData(
            f"base {run.base!r} of the {run.family}", "its files are not those that the training was planned with",
            "Restore them, or train under another key",
        )  # fmt: skip
    return folder


def _llm_base(settings: Settings, run: ModelRun) -> tuple[Path, str]:
    from include.training.llm.planning import planned_base

    base = planned_base(settings, run.base, str(run.arguments.get("quantisation", "none")))
    return base.folder, base.fingerprint


def _other_base(settings: Settings, run: ModelRun) -> tuple[Path, str]:
    try:
        folder = models.find_model(local_model(run.base, settings))
    except BadConfiguration as error:
        fix = "Name a packaged model, a folder, a name on the hub (for a private one set HF_TOKEN), or champion"
        raise BadConfiguration(f"base {run.base!r} of the {run.family}", error.why or error.what, fix) from error
    return folder, models.fingerprint(folder)


def _begin(connection: Connection, run: ModelRun, hardware: dict[str, Any], content_hash: str) -> ModelRun:
    from include.training.pipeline import code_version

    begun = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "from_step": run.step, "hardware": hardware}
    training = run.training | {
        "dataset_hash": content_hash,
        "libraries": _libraries(run.family),
        "attempts": [*run.training.get("attempts", []), begun],
    }
    model_runs.change(
        connection, run.id, state="training", attempts=run.attempts + 1, error=None, hardware=hardware, training=training,
        code_version=code_version(), **({} if run.started_at else {"started_at": "now"}),
    )  # fmt: skip
    return model_runs.by_id(connection, run.id)


def _save(job: Job, trained: Trained) -> str:
    """By content, so that a training which is asked twice for its end leaves one model."""
    digest = text_hash(canonical_json([trained.fingerprint, trained.settings])).hex
    run, dataset = job.run, job.dataset
    facts = {
        "family": run.family,
        "kind": trained.kind,
        "collection": job.collection,
        "run_key": run.run_key,
        "base": run.base,
        "base_fingerprint": run.base_fingerprint,
        "fingerprint": trained.fingerprint,
        "dataset": {"id": dataset.id, "name": dataset.name, "version": dataset.version, "content_hash": dataset.content_hash},
        "arguments": run.arguments,
        "settings": trained.settings,
    }
    return publish(job.checkpoints.store, trained.folder, model_path(run.family, job.collection, digest), facts)


def _trainer(family: str) -> Any:
    module, function = TRAINERS[family]
    return getattr(import_module(module), function)


@contextmanager
def _room(staging: Path) -> Iterator[None]:
    """Say of a full disk what it is: each library has an exception of its own for it."""
    try:
        yield
    except RagworksError:
        raise
    except Exception as error:
        words = [os.strerror(code) for code in FULL]
        if getattr(error, "errno", None) not in FULL and not any(word in str(error) for word in words):
            raise
        reason = " ".join(f"{type(error).__name__} {error}".split())[:300]
        fix = "Make room there, then run it again: it goes on from the last checkpoint"
        raise Transient(f"{staging} cannot be written", reason, fix) from error


def _libraries(family: str) -> dict[str, str]:
    from importlib.metadata import version

    own = ("peft", "trl", "accelerate") if family == "llm" else ("sentence-transformers",)
    return {name: version(name) for name in ("torch", "transformers", *own)}


@contextmanager
def _noting(connection: Connection, run: ModelRun) -> Iterator[None]:
    """Leave on the row how an attempt ended, whatever it was."""
    try:
        yield
    except psycopg.Error as error:
        known = translate(error)
        if known is None:
            _note(connection, run, "failed", error)
            raise
        _note(connection, run, "interrupted", known)
        raise known from error
    except Transient as error:
        _note(connection, run, "interrupted", error)
        raise
    except BaseException as error:  # also of a person who presses Ctrl-C twice
        _note(connection, run, "interrupted" if isinstance(error, KeyboardInterrupt) else "failed", error)
        raise


def _note(connection: Connection, run: ModelRun, state: str, error: BaseException) -> None:
    shown = str(error) if isinstance(error, RagworksError) else f"{type(error).__name__}: {error}"
    ended: dict[str, Any] = {"finished_at": "now"} if state == "failed" else {}
    try:
        model_runs.change(connection, run.id, state=state, error=shown[:2000], **ended)
    except psycopg.Error as gone:
        logger.warning("the row of training %s cannot say that it is %s: %s", run.run_key, state, gone)

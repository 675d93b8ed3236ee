"""The steps of a training, in order: data, check, baseline, train, evaluate, judge, promote, verify.

A language model has two more: what it takes is told before the baseline, and adapters are merged after the training.

The command line runs them in one process, Airflow runs each as a task; both call the functions here, and between them
nothing passes but the run key: each step reads the row that the one before left.
"""

from __future__ import annotations

import hashlib
import logging
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from include.collection_file import CHAMPION, load_collection
from include.config import PROJECT_ROOT
from include.embedding import models
from include.errors import BadConfiguration, RagworksError, Transient
from include.hashing import canonical_json, text_hash
from include.store import collections, datasets, model_runs, training_locks
from include.training.arguments import LlmArguments
from include.training.ledger import NOTED

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from include.config import Settings
    from include.datasets.conversations.options import LlmDataOptions
    from include.datasets.options import DatasetOptions
    from include.progress import Progress
    from include.registry.decision import Decision
    from include.store.datasets import Dataset
    from include.store.model_runs import ModelRun
    from include.store.pool import Connection, Pool
    from include.training.arguments import TrainingArguments

logger = logging.getLogger(__name__)

ABANDONED = timedelta(days=1)  # without a sign of life, after which nobody waits for an unfinished training


class AlreadyDone(Exception):
    """The same work was judged, or goes on, under another key: an event that came twice trains once.

    :param run: that training.
    :param same: what it has in common with what was asked for.
    """

    def __init__(self, run: ModelRun, same: str = "is of the same data, arguments and base") -> None:
        super().__init__(f"training {run.run_key} {same}, and is {run.state}: nothing is done again")
        self.run = run


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be trained.

    :param data: how to make the dataset; ``dataset`` is the id of one that is there, and wins.
    :param force: also when the same work was done before.
    """

    family: str
    collection: str
    arguments: TrainingArguments
    data: DatasetOptions | LlmDataOptions
    dataset: int | None = None
    force: bool = False


def prepare(
    settings: Settings,
    pool: Pool,
    run_key: str,
    request: Request,
    *,
    asked_at: datetime | None = None,
    progress: Progress,
) -> ModelRun:
    """Make or take the data, and write down what is to be done; a retry finds it.

    :param asked_at: when the event came that asks for it; what was planned later for the same words has served it. None: it
        is a person who asks, or a clock, and each time counts.
    :raises AlreadyDone: another training is of the same data, arguments and base, or has served the event.
    :raises BadConfiguration: the base does not exist.
    """
    asked = _asked(request)
    if asked_at is not None and not request.force:
        _require_unserved(pool, run_key, request, asked, asked_at)
    request = _resolved(settings, pool, request)
    base, base_fingerprint = _base(settings, pool, request)
    dataset = _dataset(settings, pool, run_key, request, progress)
    arguments = request.arguments.model_dump(mode="json")
    work = [request.family, request.collection, dataset.content_hash, arguments, base_fingerprint]
    work_hash = text_hash(canonical_json(work)).hex
    with pool.connection() as connection, connection.transaction():
        collections.lock_collection(connection, dataset.collection_id)  # two keys that ask for one work at once
        same = model_runs.same_work(connection, work_hash, but=run_key)
        found = _counted(connection, same)
        known = model_runs.find(connection, run_key)
        if known is None and found is not None and not request.force:
            raise AlreadyDone(found)
        if known is None and same and found is None:
            logger.warning(
                "training %s of the same work was left %s; --run-key goes on with it", same[0].run_key, same[0].state
            )
        return model_runs.plan(
            connection, run_key, family=request.family, collection=dataset.collection_id, dataset=dataset.id,
            arguments=arguments, work_hash=work_hash, base=base, base_fingerprint=base_fingerprint, code_version=code_version(),
            asked=asked,
        )  # fmt: skip


def still_counts(run: ModelRun, held: Collection[int], now: datetime) -> bool:
    """Whether a training makes the same work needless: it was judged, or somebody works on it, or may go on soon. Pure.

    A process that died leaves an unfinished row and no lock, which stands in nobody's way for ever.

    :param held: second keys of the locks of trainings that are worked on.
    """
    if run.state in model_runs.ENDED:
        return True
    if run.state == "failed":
        return False
    noted = run.training.get(NOTED)
    told = [run.created_at, run.started_at, run.finished_at, datetime.fromisoformat(noted) if noted else None]
    last = max(moment for moment in told if moment is not None)
    return training_locks.second_key(run.id) in held or now - last < ABANDONED


def _counted(connection: Connection, runs: Iterable[ModelRun]) -> ModelRun | None:
    held, now = training_locks.at_work(connection), datetime.now(UTC)
    return next((run for run in runs if still_counts(run, held, now)), None)


def _asked(request: Request) -> str:
    """A hash of what is asked for, before it is known what data and which model that means today."""
    arguments, data = request.arguments.model_dump(mode="json"), request.data.model_dump(mode="json")
    return text_hash(canonical_json([request.family, request.collection, arguments, data, request.dataset])).hex


def _require_unserved(pool: Pool, run_key: str, request: Request, asked: str, since: datetime) -> None:
    """:raises AlreadyDone: a training was planned after the event came, and its data are no older."""
    with pool.connection() as connection:
        if model_runs.find(connection, run_key) is not None:  # a retry
            return
        collection = collections.collection_id(connection, request.collection)
        found = _counted(connection, model_runs.asked_since(connection, collection, asked, since, but=run_key))
    if found is not None:
        raise AlreadyDone(found, "was planned with the same options after this was asked for")


def check(settings: Settings, pool: Pool, run_key: str) -> dict[str, Any]:
    """Judge the data before a GPU is asked for.

    :raises BadData: an expectation fails, or a document stands on two sides; the run is failed with the reason.
    """
    from include.datasets.check import check_dataset
    from include.datasets.conversations.check import check_conversations

    del settings
    with pool.connection() as connection:
        run = model_runs.by_key(connection, run_key)
        dataset = datasets.dataset(connection, run.dataset_id or 0)
    return (check_dataset if dataset.kind == "pairs" else check_conversations)(pool, run.collection_id, dataset)


@lru_cache(maxsize=1)
def code_version() -> str:
    """A digest of the code that trains and scores: all modules of ``include``."""
    digest = hashlib.sha256()
    for path in sorted((PROJECT_ROOT / "include").rglob("*.py")):
        digest.update(path.relative_to(PROJECT_ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _dataset(settings: Settings, pool: Pool, run_key: str, request: Request, progress: Progress) -> Dataset:
    """What is trained on: of a run that was begun its own, else the one that is named, else one made now.

    :raises BadConfiguration: it holds what this training cannot learn from.
    """
    from include.datasets.build import build_dataset
    from include.datasets.conversations.build import build_conversations
    from include.datasets.options import DatasetOptions

    wanted = _learns_from(request)
    with pool.connection() as connection:
        known = model_runs.find(connection, run_key)
        chosen = known.dataset_id if known else request.dataset
        if chosen is not None:
            return _of_kind(datasets.dataset(connection, chosen), wanted, request)
    data = request.data
    if isinstance(data, DatasetOptions):
        _same_kind("pairs", wanted, "the options of the data", request)
        return build_dataset(settings, pool, request.collection, data, run_key=run_key, progress=progress)
    _same_kind(data.kind, wanted, "the options of the data", request)
    return build_conversations(settings, pool, request.collection, data, run_key=run_key, progress=progress)


def _learns_from(request: Request) -> str:
    """The kind of dataset."""
    if not isinstance(request.arguments, LlmArguments):
        return "pairs"
    return "preferences" if request.arguments.method == "dpo" else "conversations"


def _of_kind(dataset: Dataset, wanted: str, request: Request) -> Dataset:
    _same_kind(dataset.kind, wanted, f"dataset {dataset.id}", request)
    return dataset


def _same_kind(kind: str, wanted: str, what: str, request: Request) -> None:
    if kind != wanted:
        method = getattr(request.arguments, "method", None)
        how = f"{request.family} with method {method}" if method and request.family == "llm" else request.family
        raise BadConfiguration(
            what, f"{kind}, and a training of {how} learns from {wanted}", f"Take a dataset of {wanted}, or set data_kind to it"
        )  # fmt: skip


def _resolved(settings: Settings, pool: Pool, request: Request) -> Request:
    """The request with the models themselves in place of words that mean another one tomorrow."""
    if request.family != "llm":
        return request
    from include.training.llm.planning import resolved

    return resolved(settings, pool, request)


def _base(settings: Settings, pool: Pool, request: Request) -> tuple[str, str]:
    """The model that training starts from, and the fingerprint of its files."""
    from include.registry.artifacts import local_model

    if isinstance(request.arguments, LlmArguments):
        from include.training.llm.planning import planned_base

        asked = request.arguments
        return asked.base, planned_base(settings, asked.base, asked.quantisation).fingerprint
    if getattr(request.arguments, "kind", None) == "forest":
        return "", "forest"  # it starts from nothing
    base = request.arguments.base or _default_base(settings, request)
    if base == CHAMPION:
        base = _champion(settings, pool, request)
    folder = models.find_model(local_model(base, settings))
    return base, models.fingerprint(folder)


def _default_base(settings: Settings, request: Request) -> str:
    embedding = load_collection(settings, request.collection).embedding
    if request.family == "embedder" and embedding.backend != "torch":
        raise BadConfiguration(
            f"collection {request.collection}", f"its embedder {embedding.model} is behind an endpoint: not to be trained",
            "Name a base model to start from",
        )  # fmt: skip
    return embedding.model if request.family == "embedder" and embedding.model != CHAMPION else embedding.base


def _champion(settings: Settings, pool: Pool, request: Request) -> str:
    from include.store import deployments

    with pool.connection() as connection:
        collection = collections.collection_id(connection, request.collection)
        live = deployments.deployed(connection, settings.environment, request.family, collection)
        run = model_runs.by_id(connection, live.model_run_id) if live and live.model_run_id else None
    if run is None or run.artifact is None:
        raise BadConfiguration(
            f"base {CHAMPION!r}", f"no {request.family} of {request.collection} has been promoted", "Name a model to start from"
        )
    return run.artifact


@dataclass(frozen=True, slots=True)
class Conclusion:
    """How a training ended.

    :param version: its number in the registry.
    :param page: where its figures can be looked at.
    """

    decision: Decision
    version: int
    page: str


def conclude(settings: Settings, pool: Pool, run_key: str) -> Conclusion:
    """Judge a model, enter it into the registry, write its page, and remove the checkpoints; again it is the same.

    :raises BadData: it was not evaluated, or something else serves by now.
    :raises Transient: the store is full or away.
    """
    from include.evaluation.model_page import publish_model_page
    from include.registry.gate import judge
    from include.registry.versions import register
    from include.training import checkpoints

    decision = judge(settings, pool, run_key)
    version = register(settings, pool, run_key)
    page = publish_model_page(settings, pool, run_key)
    checkpoints.remove(settings, run_key)
    return Conclusion(decision, version, page)


def run_training(
    settings: Settings, pool: Pool, run_key: str, request: Request, *, promote_now: bool, progress: Progress
) -> dict[str, Any]:
    """All steps in one process; what was finished before under this key is not done again.

    :param promote_now: the person who asks approves of a winner beforehand.
    :return: run_key, state, version, reasons, page, and of a promotion what it did and its verification.
    :raises AlreadyDone: another training is of the same work.
    """
    from include.evaluation.challenge import baseline, evaluate_challenger
    from include.registry.promotion import promote
    from include.registry.verification import verify
    from include.training.llm.candidates import merge_candidates
    from include.training.llm.forecast import forecast
    from include.training.train import train

    run = prepare(settings, pool, run_key, request, progress=progress)
    llm = request.family == "llm"
    with failing(pool, run_key):
        check(settings, pool, run_key)
        if llm:
            forecast(settings, pool, run_key)
        if run.baseline is None:
            baseline(settings, pool, run_key, progress=progress)
    train(settings, pool, run_key, progress=progress)
    if llm:
        merge_candidates(settings, pool, run_key, progress=progress)
    evaluate_challenger(settings, pool, run_key, progress=progress)
    ended = conclude(settings, pool, run_key)
    decision, version = ended.decision, ended.version
    result: dict[str, Any] = {
        "run_key": run_key,
        "family": request.family,
        "collection": request.collection,
        "state": "accepted" if decision.accepted else "refused",
        "version": version,
        "reasons": list(decision.reasons),
        "page": ended.page,
    }
    policy = load_collection(settings, request.collection).training.promotion
    if decision.accepted and (promote_now or policy == "auto"):
        result["promotion"] = promote(
            settings, pool, request.family, version, collection=request.collection, actor="command line",
            reason="won its comparison", as_compared=True, progress=progress,
        )  # fmt: skip
        result["verification"] = verify(settings, pool, request.family, request.collection, run=run.id)
    return result


@contextmanager
def failing(pool: Pool, run_key: str) -> Iterator[None]:
    """Note on a training's row what stopped it for good."""
    try:
        yield
    except RagworksError as error:
        if not isinstance(error, Transient):
            with pool.connection() as connection:
                run = model_runs.by_key(connection, run_key)
                model_runs.change(connection, run.id, state="failed", error=str(error), finished_at="now")
        raise

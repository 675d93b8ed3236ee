"""The steps of an index run as tasks. Each reads what it needs from the run's row; between tasks pass worker numbers only."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, SkipMixin
from airflow.sdk.exceptions import AirflowSkipException, AirflowTaskTimeout

from include.errors import BadConfiguration, BadData, Transient
from ragworks.assets import index_asset
from ragworks.params import MAX_WORKERS, MODES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from airflow.sdk import Context

    from include.indexing.context import IndexContext
    from include.indexing.publish import Outcome
    from include.store.runs import RunDocument

RUN_KEY = "{{ run_id }}"  # asset and API runs have no logical date: only the run's id is always there
SHOWN = 50  # documents listed in the log of a plan


class PlanIndexOperator(BaseOperator, SkipMixin):
    """List a collection's source, read what changed, and write down what there is to do.

    Returns the numbers of the workers that are needed: none when nothing is to be embedded. In the modes ``plan`` and
    ``plan_rebuild`` everything downstream is skipped.

    :param collection: name of the collection (templated).
    :param mode: ``incremental``, ``plan``, ``plan_rebuild``, ``rebuild`` or ``rollback``, which plans nothing (templated).
    :param allow_deletes: let the run remove more than ``validation.max_deleted`` (templated).
    :param acknowledge: what was refused before this run does not stop it (templated).
    :param workers: how many workers share the embedding at most, 1 to 32 (templated).
    :param run_key: names the run; a retry with the same key goes on with it (templated).
    """

    template_fields: Sequence[str] = ("collection", "mode", "allow_deletes", "acknowledge", "workers", "run_key")
    inherits_from_skipmixin = True
    ui_color = "#e8f0fe"

    def __init__(
        self,
        *,
        collection: str,
        mode: str = "incremental",
        allow_deletes: bool | str = False,
        acknowledge: bool | str = False,
        workers: int | str = 1,
        run_key: str = RUN_KEY,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.collection = collection
        self.mode = mode
        self.allow_deletes = allow_deletes
        self.acknowledge = acknowledge
        self.workers = workers
        self.run_key = run_key

    def execute(self, context: Context) -> list[int]:
        """Plan.

        :raises BadConfiguration: an argument is impossible.
        :raises BadData: a limit of the collection would be broken; nothing was removed or published.
        """
        from include.indexing.plan import plan_run

        mode, allow_deletes = _mode(self.mode), _flag("allow_deletes", self.allow_deletes)
        acknowledge, workers = _flag("acknowledge", self.acknowledge), _workers(self.workers)
        if mode == "rollback":
            return []
        rebuild = mode == "plan_rebuild"
        mode = "plan" if rebuild else mode
        with _working(self.collection, self.run_key) as index:
            if acknowledge and mode != "plan":
                self._acknowledge(index, context["dag_run"].start_date)  # a retry does not take in what its first try refused
            try:
                plan = plan_run(index, self.run_key, mode=mode, allow_deletes=allow_deletes, rebuild=rebuild)
            except BadData:
                self._show(index)  # what the gate looked at
                raise
            self._show(index)
        if mode == "plan":
            self.log.info("This was a plan: nothing was changed, and the steps after it are skipped")
            self.skip(context["ti"], self.get_flat_relatives(upstream=False))
        return list(range(min(workers, plan.pending)))

    def _acknowledge(self, index: IndexContext, before: datetime | None) -> None:
        from include.store import collections, quarantine

        with index.pool.connection() as connection:
            collection = collections.ensure_collection(connection, self.collection)
            count = quarantine.acknowledge_shown(connection, collection, before)
        self.log.info("%d refused documents were acknowledged: they do not stop this run", count)

    def _show(self, index: IndexContext) -> None:
        from include.indexing.estimate import describe_estimate
        from include.store import collections, runs

        with index.pool.connection() as connection:
            collection = collections.collection_id(connection, self.collection)
            run = runs.run_by_key(connection, collection, self.run_key)
            documents = runs.run_documents(connection, run.id, limit=SHOWN)
            total = runs.count_documents(connection, run.id)
        for line in _describe(run.plan or {}, documents, total):
            self.log.info("%s", line)
        self.log.info("Expected: %s", describe_estimate(run.estimate or {}))
        if run.reads:
            self.log.info("Read: %s", ", ".join(f"{count} {why}" for why, count in run.reads.items()))
        if note := (run.plan or {}).get("note"):
            self.log.warning("%s", note)
        if stopped := (run.plan or {}).get("stopped"):
            self.log.warning("This would stop the run: %s" if run.mode == "plan" else "The run is stopped: %s", stopped)


class IndexShardOperator(BaseOperator):
    """Work as one of the run's workers: chunk, embed, check and stage documents until the run's queue is empty.

    Expand it over the numbers that :class:`PlanIndexOperator` returns. Documents are not divided beforehand: all workers
    take from one queue, so none waits for a slow one, and what a killed worker held goes to the others.

    :param collection: name of the collection (templated).
    :param shard: the worker's number.
    :param run_key: names the run (templated).
    """

    template_fields: Sequence[str] = ("collection", "run_key")
    ui_color = "#fef7e0"

    def __init__(self, *, collection: str, shard: int = 0, run_key: str = RUN_KEY, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.collection = collection
        self.shard = shard
        self.run_key = run_key

    def execute(self, context: Context) -> None:
        """Embed.

        :raises BadData: so many documents were refused that the run cannot be published.
        """
        from include.indexing.embed import index_shard

        with _working(self.collection, self.run_key) as index:
            finished = index_shard(index, self.run_key)
        self.log.info("Worker %d finished %d documents of %s", self.shard + 1, finished, self.collection)


class ValidateIndexOperator(BaseOperator):
    """Judge the whole run before anything goes live: all embedded, not too much refused, not too much deleted.

    :param collection: name of the collection (templated).
    :param mode: in ``rollback`` nothing is judged (templated).
    :param run_key: names the run (templated).
    """

    template_fields: Sequence[str] = ("collection", "mode", "run_key")
    ui_color = "#e6f4ea"

    def __init__(self, *, collection: str, mode: str = "incremental", run_key: str = RUN_KEY, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.collection = collection
        self.mode = mode
        self.run_key = run_key

    def execute(self, context: Context) -> None:
        """Judge.

        :raises BadData: a limit of the collection is broken; nothing was published.
        :raises Transient: documents are still to be embedded.
        """
        from include.indexing.publish import validate_run

        if _mode(self.mode) == "rollback":
            return
        with _working(self.collection, self.run_key) as index:
            validate_run(index, self.run_key)
        self.log.info("Run %s of %s may be published", self.run_key, self.collection)


class PublishIndexOperator(BaseOperator):
    """Make the run's changes visible to queries in one transaction, and announce them.

    The event of the collection's index asset carries run, generation and counts in its ``extra``. The task is skipped
    when the run changed nothing, so that an unchanged run wakes nobody.

    :param collection: name of the collection (templated).
    :param mode: in ``rollback`` the generation that served last goes live instead (templated).
    :param run_key: names the run (templated).
    """

    template_fields: Sequence[str] = ("collection", "mode", "run_key")
    ui_color = "#fce8e6"

    def __init__(self, *, collection: str, mode: str = "incremental", run_key: str = RUN_KEY, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.collection = collection
        self.mode = mode
        self.run_key = run_key

    def execute(self, context: Context) -> None:
        """Publish.

        :raises AirflowSkipException: the run changed nothing.
        :raises BadData: a limit of the collection is broken; nothing was published.
        """
        from include.indexing.publish import publish_run

        if _mode(self.mode) == "rollback":
            self._roll_back(context)
            return
        with _working(self.collection, self.run_key) as index:
            outcome = publish_run(index, self.run_key)
        # A try that was killed after its commit has written rows: its retry still has something to announce.
        if not (outcome.changed or outcome.written or outcome.deleted):
            raise AirflowSkipException(f"{self.collection} is unchanged: {outcome.total} chunks")
        extra = _announcement(outcome)
        self.log.info("Published %s: %s", self.collection, extra)
        context["outlet_events"][index_asset(self.collection)].extra = extra

    def _roll_back(self, context: Context) -> None:
        from include.indexing.activate import rollback
        from include.store.pool import open_pool
        from ragworks.hooks.ragworks import settings_from_airflow

        settings = settings_from_airflow()
        with open_pool(settings) as pool:
            since = context["dag_run"].start_date  # a retry finds it done
            result = rollback(pool, self.collection, since=since, settings=settings)
        self.log.info("Generation %(generation)s is live instead of %(replaced)s; behind the source: %(behind)s", result)
        context["outlet_events"][index_asset(self.collection)].extra = result


class RefusedCollectionOperator(BaseOperator):
    """Fail with what is wrong with a collection file.

    :param error: what is wrong, why, and what to do.
    """

    ui_color = "#f1f3f4"

    def __init__(self, *, error: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.error = error

    def execute(self, context: Context) -> None:
        """Fail.

        :raises BadConfiguration: always.
        """
        raise BadConfiguration(self.error)


@contextmanager
def _working(collection: str, run_key: str) -> Iterator[IndexContext]:
    """The collection, opened; what stops the block is noted on the run's row, a time limit too."""
    from include.collection_file import load_collection
    from include.indexing.context import open_context
    from include.indexing.pipeline import failing
    from ragworks.hooks.ragworks import settings_from_airflow, source_options

    settings = settings_from_airflow()
    options = source_options(load_collection(settings, collection).source)
    with open_context(settings, collection, storage_options=options) as index, failing(index, run_key):
        try:
            yield index
        except AirflowTaskTimeout as error:  # not an Exception: it would pass unnoted
            raise Transient(
                f"a step of {collection} was stopped", "it reached its execution_timeout", "The retry goes on where it was"
            ) from error


def _describe(plan: Mapping[str, Any], documents: Sequence[RunDocument], total: int) -> list[str]:
    """A plan as lines of a log."""
    from include.indexing.plan import ACTIONS

    counts = ", ".join(f"{plan.get(action, 0)} {action.replace('_', ' ')}" for action in (*ACTIONS, "unchanged"))
    lines = [f"Plan: {counts}; to embed: {plan.get('pending', 0)}"]
    action_width = max((len(document.action) for document in documents), default=0)
    uri_width = min(60, max((len(document.uri) for document in documents), default=0))
    lines += [f"{d.action:<{action_width}}  {d.uri:<{uri_width}}  {d.reason}" for d in documents]
    if total > len(documents):
        lines.append(f"… and {total - len(documents)} more documents")
    return lines


def _announcement(outcome: Outcome) -> dict[str, Any]:
    return {
        "run": outcome.run,
        "generation": outcome.generation,
        "total": outcome.total,
        "embedded": outcome.embedded,
        "reused": outcome.reused,
        "written": outcome.written,
        "deleted": outcome.deleted,
        "quarantined": outcome.quarantined,
    }


def _mode(value: str) -> str:
    if value not in MODES:
        raise BadConfiguration(f"mode {value!r}", "there is no such mode", f"Use one of {', '.join(MODES)}")
    return value


def _flag(name: str, value: bool | str) -> bool:
    text = str(value).strip().lower()  # a template renders to text
    if text not in ("true", "false"):
        raise BadConfiguration(f"{name} {value!r}", "it is neither true nor false", "Use true or false")
    return text == "true"


def _workers(value: int | str) -> int:
    text = str(value).strip()
    if not text.isdecimal() or not 1 <= int(text) <= MAX_WORKERS:
        raise BadConfiguration(f"workers {value!r}", "it is not a possible number", f"Use 1 to {MAX_WORKERS}")
    return int(text)

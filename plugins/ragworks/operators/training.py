"""The steps of a training as tasks. Each reads the row that the one before left; nothing passes between them but its key."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import BaseOperator, SkipMixin
from airflow.sdk.exceptions import AirflowSkipException, AirflowTaskTimeout

from include.errors import BadConfiguration, Transient
from ragworks.assets import champion_asset
from ragworks.operators.gpu import TRAINING_KEY
from ragworks.training_form import request_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow.sdk import Context

    from include.collection_file import Training
    from include.config import Settings
    from include.store.model_runs import ModelRun
    from include.store.pool import Pool


class _TrainingOperator(BaseOperator):
    """What the steps have in common.

    :param family: ``reranker`` or ``embedder``.
    :param run_key: names the training; a retry with the same key goes on with it (templated).
    """

    template_fields: Sequence[str] = ("run_key",)

    def __init__(self, *, family: str, run_key: str = TRAINING_KEY, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.family = family
        self.run_key = run_key


class ChooseCollectionOperator(BaseOperator):
    """Tell which collections are to be trained, one a run: this one's, and the others, which get runs of their own.

    It is the collection of the form. Without one it is that of the events that started the run, which may be several since
    Airflow joins events; without any, every collection that there is. Returns the ``conf`` of the other runs.
    """

    ui_color = "#f1f3f4"

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Choose.

        :raises BadConfiguration: there is no collection.
        """
        first, *others = chosen_collections(context)
        self.log.info("This run trains on %s%s", first, f"; runs of their own: {', '.join(others)}" if others else "")
        since = asked_at(context)
        told = {"asked_at": since.isoformat()} if since else {}
        return [{"collection": name, "decisions": asked_decisions(context, name), **told} for name in others]


class PrepareTrainingOperator(_TrainingOperator):
    """Make the data of a training and write down what is to be done.

    Skipped, with all that follows, when the same data, arguments and base were trained before, when a training with the same
    options was planned after the event came that woke it, or when the decision that woke it is carried out by another run: an
    event that comes twice trains once.
    """

    ui_color = "#e8f0fe"

    def execute(self, context: Context) -> None:
        """Prepare.

        :raises AirflowSkipException: the same work was judged before, or goes on.
        :raises BadConfiguration: a field of the form is impossible.
        """
        from include.collection_file import load_collection
        from include.monitoring.carrying import TakenAlready, begin_training, end_training
        from include.progress import Silent
        from include.training.pipeline import AlreadyDone, prepare

        name = chosen_collections(context)[0]
        with _opened() as (settings, pool):
            try:
                asked = asked_decisions(context, name)
                decision = begin_training(pool, settings.environment, self.family, name, self.run_key, asked)
            except TakenAlready as taken:
                raise AirflowSkipException(str(taken)) from None
            if decision is not None:
                self.log.info("This run carries out decision %d: %s", decision.id, decision.reason)
            usual = load_collection(settings, name).training.arguments.get(self.family, {})
            given = context["dag_run"].conf or {}  # a form has all fields, an event none
            request = request_of(
                self.family, name, context["params"], usual={key: usual[key] for key in usual.keys() - given.keys()}
            )
            try:
                since = None if decision is not None else asked_at(context)
                run = prepare(settings, pool, self.run_key, request, asked_at=since, progress=Silent())
            except AlreadyDone as done:
                end_training(pool, self.run_key, (), note=str(done))
                raise AirflowSkipException(str(done)) from None
        self.log.info("Training %d of the %s of %s, dataset %s", run.id, self.family, name, run.dataset_id)


def chosen_collections(context: Context) -> list[str]:
    """The collections that a run is asked to train on, at least one.

    :raises BadConfiguration: there is none.
    """
    from include.collection_file import collection_names
    from ragworks.hooks.ragworks import settings_from_airflow

    if named := str(context["params"].get("collection") or ""):
        return [named]
    known = collection_names(settings_from_airflow())
    asked = {str(extra["collection"]) for extra in _events(context) if extra.get("collection")}
    wanted = sorted(asked & set(known)) if asked else known
    if not wanted:
        why = f"there is no collection file for {', '.join(sorted(asked))}" if asked else "there is no collection file"
        raise BadConfiguration("no collection to train on", why, "Name one in the form, or add its file")
    return wanted


def asked_decisions(context: Context, collection: str) -> list[int]:
    """The decisions that started a run, if nothing else did; an event of another kind asks by itself."""
    if handed_on := (context["dag_run"].conf or {}).get("decisions"):
        return [int(one) for one in handed_on]
    mine = [extra for extra in _events(context) if extra.get("collection") in (None, collection)]
    if any("decision" not in extra for extra in mine):
        return []
    return [int(extra["decision"]) for extra in mine]


def asked_at(context: Context) -> datetime | None:
    """When the newest of the events came that started a run; None: a person or a clock did."""
    if handed_on := (context["dag_run"].conf or {}).get("asked_at"):
        return datetime.fromisoformat(handed_on)
    events = [event for found in (context.get("triggering_asset_events") or {}).values() for event in found]
    return max((event.timestamp for event in events), default=None)


def _events(context: Context) -> list[dict[str, Any]]:
    """What the events that started a run say; that of a trigger has it one level deeper than that of REST."""
    events = [event for found in (context.get("triggering_asset_events") or {}).values() for event in found]
    extras = [dict(event.extra or {}) for event in events]
    return [dict(extra["payload"] or {}) if isinstance(extra.get("payload"), dict) else extra for extra in extras]


class CheckTrainingDataOperator(_TrainingOperator):
    """Judge the data before a GPU is asked for: what Great Expectations says of it, and that nothing stands on two sides."""

    ui_color = "#e6f4ea"

    def execute(self, context: Context) -> None:
        """Check.

        :raises BadData: the data is refused; each reason is named.
        """
        from include.training.pipeline import check, failing

        with _opened() as (settings, pool), failing(pool, self.run_key):
            report = check(settings, pool, self.run_key)
        self.log.info("Data is sound: %s", report)


class EstimateOperator(_TrainingOperator):
    """Tell what a training takes, and refuse it before a GPU is asked for when it cannot fit where it is to run."""

    ui_color = "#e6f4ea"

    def execute(self, context: Context) -> None:
        """Estimate.

        :raises Terminal: it needs more memory or time than there is; the message has what would fit.
        """
        from include.training.llm.forecast import forecast
        from include.training.pipeline import failing
        from ragworks.profiles import PROFILES, read_profiles

        with _opened() as (settings, pool), failing(pool, self.run_key):
            pods = settings.compute == "kubernetes"
            devices = [profile.device() for profile in read_profiles(PROFILES)] if pods else None
            found = forecast(settings, pool, self.run_key, profile=devices)
        self.log.info("Expected: %s", found["said"])


class BaselineOperator(_TrainingOperator):
    """Score what serves now, on the golden queries that will judge the model.

    Without enough of them nothing could be decided, so nothing is trained.
    """

    ui_color = "#f3e8fd"

    def execute(self, context: Context) -> None:
        """Score.

        :raises BadData: too few golden queries can be asked.
        """
        from include.evaluation.challenge import baseline
        from include.progress import Silent
        from include.training.pipeline import failing

        with _opened() as (settings, pool), failing(pool, self.run_key):
            found = baseline(settings, pool, self.run_key, progress=Silent())
        self.log.info("What serves now: %s", {key: found[key] for key in ("questions", "measures", "latency") if key in found})


class JudgeModelOperator(_TrainingOperator, SkipMixin):
    """Decide whether the challenger is better, and enter it into the registry.

    What follows is skipped when it is not, or when the collection promotes by hand alone. The reasons are in the log, in the
    training's row and in ``ragworks models``.
    """

    inherits_from_skipmixin = True
    ui_color = "#fef7e0"

    def execute(self, context: Context) -> None:
        """Judge; a refused model is a result and no failure."""
        from include.training.pipeline import conclude

        with _opened() as (settings, pool):
            ended = conclude(settings, pool, self.run_key)
            policy = _policy(settings, pool, self.run_key)
        decision, version = ended.decision, ended.version
        self.log.info("Figures and plots: %s", ended.page)
        for reason in decision.reasons:
            self.log.info("%s", reason)
        if not decision.accepted:
            self.log.warning("%s %d is refused: the champion stays", self.family, version)
        elif policy.promotion == "never":
            self.log.info("training.promotion is never: promote it with `ragworks promote %s %d`", self.family, version)
        else:
            return
        self.skip(context["ti"], [task for task in self.get_flat_relatives(upstream=False) if not task.is_teardown])


class ApproveModelOperator(ApprovalOperator):
    """Ask a person whether the winner goes live, with the figures that speak for it.

    Nobody is asked when ``training.promotion`` is ``auto``. After ``training.approval_hours`` without an answer it is a no.
    While it waits it holds no worker.

    :param family: ``reranker`` or ``embedder``.
    :param run_key: names the training (templated).
    """

    template_fields: Sequence[str] = (*ApprovalOperator.template_fields, "run_key")
    ui_color = "#fce8e6"

    def __init__(self, *, family: str, run_key: str = TRAINING_KEY, **kwargs: Any) -> None:
        super().__init__(
            subject=f"Promote the {family}?",
            defaults=self.REJECT,
            response_timeout=timedelta(days=3),  # the collection's own is set before it waits
            **kwargs,
        )
        self.family = family
        self.run_key = run_key

    def execute(self, context: Context) -> Any:
        """Ask, unless the collection says that nobody need be asked."""
        from include.evaluation.model_page import model_page_path

        with _opened() as (settings, pool):
            run = _run(pool, self.run_key)
            page = model_page_path(settings, run, _collection(pool, run))
            policy = _policy(settings, pool, self.run_key)
        if policy.promotion == "auto":
            self.log.info("training.promotion is auto: nobody is asked")
            return {"chosen_options": [self.APPROVE], "params_input": {}}
        self.subject = f"Promote {self.family} {run.version}?"
        self.body = _evidence(run, page)
        self.response_timeout = timedelta(hours=policy.approval_hours)
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Take the answer; after a no the index that an embedder was tried on is dropped."""
        from include.indexing.candidate import drop_candidates

        if self.REJECT in (event.get("chosen_options") or ()):
            with _opened() as (_, pool):
                dropped = drop_candidates(pool, _run(pool, self.run_key).collection_id, run_key=self.run_key)
            self.log.info("Not promoted; dropped: %s", dropped or "nothing")
        return super().execute_complete(context, event)


class PromoteModelOperator(_TrainingOperator):
    """Put the model to work: a reranker at once, an embedder by a new generation that is compared and swapped."""

    ui_color = "#e6f4ea"

    def execute(self, context: Context) -> None:
        """Promote; twice changes nothing.

        :raises BadData: the version was not accepted, was compared with another than serves by now, or the new generation is
            worse.
        """
        from include.progress import Silent
        from include.registry.promotion import promote

        with _opened() as (settings, pool):
            run = _run(pool, self.run_key)
            name = _collection(pool, run)
            result = promote(
                settings, pool, self.family, run.version or 0, collection=name, actor=f"airflow {self.run_key}",
                reason="won its comparison", as_compared=True, progress=Silent(),
            )  # fmt: skip
        self.log.info("Promoted %s %s of %s: %s", self.family, run.version, name, result)
        extra: dict[str, Any] = {"collection": name, "version": run.version, "run_key": self.run_key}
        context["outlet_events"][champion_asset(self.family)].extra = extra


class VerifyModelOperator(_TrainingOperator):
    """Ask a few questions after a promotion; when they are not answered well by the new model, it is taken back."""

    ui_color = "#e6f4ea"

    def execute(self, context: Context) -> None:
        """Verify.

        :raises BadData: it failed, and the one before serves again; or another one serves, which is not what was promoted here.
        """
        from include.registry.verification import verify

        with _opened() as (settings, pool):
            run = _run(pool, self.run_key)
            found = verify(settings, pool, self.family, _collection(pool, run), run=run.id)
        self.log.info("The new %s answers: %s", self.family, found)


class CloseTrainingOperator(_TrainingOperator):
    """Write down how the training ended, whatever happened, and tell people when it failed or was taken back.

    It is a teardown: it runs after all others, and does not make a failed run a success.
    """

    ui_color = "#f1f3f4"

    def execute(self, context: Context) -> dict[str, Any]:
        """Close. Returns the outcome that the decision keeps which asked for the training, if one did."""
        from include.monitoring.carrying import end_training
        from ragworks.notifiers import Message, tell

        failed = _failed_tasks(context, self.get_flat_relative_ids(upstream=True))
        with _opened() as (_, pool):
            outcome = end_training(pool, self.run_key, failed)
        self.log.info("Outcome: %s", outcome)
        if failed:
            tell(Message(*said_of_failure(self.family, self.run_key, failed, outcome)), pauses=(5, 30))
        return outcome


def said_of_failure(family: str, run_key: str, failed: Sequence[str], outcome: Mapping[str, Any]) -> tuple[str, str]:
    """Heading and text for people: whether the new model serves is what they must know first. Pure.

    :param failed: the tasks.
    :param outcome: of :func:`include.monitoring.carrying.end_training`.
    """
    version, promoted = outcome.get("version"), bool(outcome.get("promoted"))
    why = outcome.get("error") or "The log of that task says why"
    if promoted and "verify" in failed:
        what = f"{family} {version} was not verified and STILL SERVES"
        now = f"Look at it, or go back: ragworks rollback-model {family}"
    elif promoted:
        what = f"A training of the {family} failed, and its version {version} serves"
        now = f"To go back: ragworks rollback-model {family}"
    else:
        taken_back = version and "verify" in failed
        what = f"{family} {version} was taken back" if taken_back else f"A training of the {family} failed"
        now = "What served before serves"
    return what, f"Run {run_key}, task {', '.join(failed)}. {why}. {now}; see: ragworks models {family}"


def _failed_tasks(context: Context, among: set[str]) -> list[str]:
    """The tasks of this run that failed; those that follow a failed one are not counted."""
    dag_run = context["dag_run"]
    found = context["ti"].get_task_states(dag_id=dag_run.dag_id, run_ids=[dag_run.run_id])
    states = found.get(dag_run.run_id, {})
    return sorted(task for task, state in states.items() if str(state) == "failed" and task in among)


@contextmanager
def _opened() -> Iterator[tuple[Settings, Pool]]:
    from include.store.pool import open_pool
    from ragworks.hooks.ragworks import settings_from_airflow

    settings = settings_from_airflow()
    with open_pool(settings) as pool:
        try:
            yield settings, pool
        except AirflowTaskTimeout as error:  # not an Exception: it would pass unnoted
            raise Transient(
                "a step of a training was stopped", "it reached its execution_timeout", "The retry goes on"
            ) from error


def _evidence(run: ModelRun, page: str) -> str:
    """Markdown: what speaks for a winner, and where more stands."""
    reasons = "\n".join(f"- {reason}" for reason in (run.gate or {}).get("reasons", ()))
    return (
        f"{reasons}\n\nTrained from `{run.base or 'nothing'}` on dataset {run.dataset_id}, {run.step} steps,"
        f" {run.gpu_seconds:.0f} GPU seconds. All figures: {page}, or `ragworks models {run.family} --run {run.run_key}`."
    )


def _run(pool: Pool, run_key: str) -> ModelRun:
    from include.store import model_runs

    with pool.connection() as connection:
        return model_runs.by_key(connection, run_key)


def _collection(pool: Pool, run: ModelRun) -> str:
    from include.store import collections

    with pool.connection() as connection:
        return collections.collection_name(connection, run.collection_id)


def _policy(settings: Settings, pool: Pool, run_key: str) -> Training:
    from include.collection_file import load_collection

    return load_collection(settings, _collection(pool, _run(pool, run_key))).training

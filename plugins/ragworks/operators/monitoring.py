"""The steps of a monitor as tasks. What is to be done stands in rows, which each task reads: none trusts another's word."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException, AirflowTaskTimeout

from include.errors import BadConfiguration, BadData, ServiceUnavailable, Transient

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow.sdk import Context

    from include.config import Settings
    from include.store.decisions import StoredDecision
    from include.store.pool import Pool

MONITOR_KEY = "{{ dag.dag_id }}/{{ run_id }}"
ALIVE = ("queued", "running")


class _MonitorOperator(BaseOperator):
    """What the steps have in common.

    :param collection: name of the collection (templated).
    :param run_key: names the run (templated).
    """

    template_fields: Sequence[str] = ("collection", "run_key")

    def __init__(self, *, collection: str, run_key: str = MONITOR_KEY, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.collection = collection
        self.run_key = run_key


class MeasureOperator(_MonitorOperator):
    """Measure the signals of every window that is over, open and end breaches, and decide, as ``ragworks monitor`` does.

    The form's ``at`` says as of when; empty: now.

    Before that it closes what a run left open that is gone, and looks at what other systems have reported. Run twice, or by
    two at once, it changes nothing.
    """

    ui_color = "#e8f0fe"

    def execute(self, context: Context) -> None:
        """Measure.

        :raises AirflowSkipException: the collection was never indexed, so there is nothing to watch.
        """
        from include.collection_file import load_collection
        from include.monitoring.requests import take_alerts
        from include.monitoring.run import monitor
        from include.progress import Silent

        with _opened() as (settings, pool):
            try:
                key = _key(pool, self.collection)
            except BadData as error:
                raise AirflowSkipException(str(error)) from None
            self._close_what_is_lost(context, settings, pool, key)
            with pool.connection() as connection:
                seen = take_alerts(connection, settings, load_collection(settings, self.collection), key, self.run_key)
            for report in seen:
                self.log.info("%s reports %s: %s. %s", report.source, report.state, report.title, report.outcome)
            at = context["params"].get("at")
            found = monitor(
                settings, pool, self.collection, at=datetime.fromisoformat(at) if at else None, run_key=self.run_key,
                progress=Silent(),
            )  # fmt: skip
        self.log.info("%d new windows, the newest until %s", found.windows, found.at)
        for breach in found.breaches:
            self.log.warning("Breach %d of %s since %s: %s", breach.id, breach.signal, breach.opened_at, breach.reason)
        if found.decision is not None:
            self.log.info("Decision %s: %s, %s", found.decision_id, found.decision.action, found.decision.reason)

    def _close_what_is_lost(self, context: Context, settings: Settings, pool: Pool, key: int) -> None:
        """End the decision whose run is over without having said so: it would keep every other one from being taken."""
        from include.monitoring.carrying import end_training
        from include.store import decisions

        with pool.connection() as connection:
            known = decisions.open_decision(connection, settings.environment, key)
        if known is None or known.state != "started" or not known.run_key or _alive(context, known.monitor_key):
            return
        if "/" not in known.run_key or _alive(context, known.run_key):
            return  # the command line carries it out, or it goes on
        if known.action == "train":
            end_training(pool, known.run_key, {"a run that is gone"}, note=f"run {known.run_key} has ended")
        with pool.connection() as connection:
            outcome = {"state": "over", "note": f"run {known.run_key} has ended"}
            decisions.finish(connection, known.id, outcome)
        self.log.info("Decision %d is over: run %s has ended", known.id, known.run_key)


class TellOperator(_MonitorOperator):
    """Tell people of breaches, decisions and reports, each once through each channel that has a connection.

    What cannot be told now is told by the retry, or by the next run.
    """

    ui_color = "#fef7e0"

    def execute(self, context: Context) -> None:
        """Tell.

        :raises ServiceUnavailable: a channel did not take everything.
        """
        with _opened() as (settings, pool):
            failed = _tell(settings, pool, self.collection, self.log)
        if failed:
            raise ServiceUnavailable("not everybody was told", "; ".join(failed), "Correct the connection; it is told again")


class ApproveDecisionOperator(ApprovalOperator):
    """Ask a person about the decision that waits, with its evidence; after ``training.approval_hours`` it is a no.

    Nobody is asked when none waits, or when another run asks already. While it waits it holds no worker.

    :param collection: name of the collection (templated).
    :param run_key: names the run (templated).
    """

    template_fields: Sequence[str] = (*ApprovalOperator.template_fields, "collection", "run_key")
    ui_color = "#fce8e6"

    def __init__(self, *, collection: str, run_key: str = MONITOR_KEY, **kwargs: Any) -> None:
        super().__init__(
            subject=f"Act on {collection}?",
            defaults=self.REJECT,
            response_timeout=timedelta(days=3),  # the collection's own is set before it waits
            **kwargs,
        )
        self.collection = collection
        self.run_key = run_key

    def execute(self, context: Context) -> Any:
        """Ask, if there is something to ask."""
        from include.collection_file import load_collection
        from include.monitoring.news import evidence, title

        with _opened() as (settings, pool):
            known = _open_decision(settings, pool, self.collection)
            hours = load_collection(settings, self.collection).training.approval_hours
        if known is None or known.state != "waiting":
            self.log.info("Nothing waits for an answer")
            return {"chosen_options": [self.APPROVE], "params_input": {}}
        if known.monitor_key != self.run_key and _alive(context, known.monitor_key):
            self.log.info("Decision %d waits for an answer in %s", known.id, known.monitor_key)
            return {"chosen_options": [self.APPROVE], "params_input": {}}
        context["ti"].xcom_push("decision", known.id)
        self.subject = f"{known.collection}: {title(known)}?"
        self.body = evidence(known)
        self.response_timeout = timedelta(hours=hours)
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Take the answer; what was decided meanwhile by somebody else stays."""
        from include.store import decisions

        if "error" not in event:
            decision = int(context["ti"].xcom_pull(task_ids=self.task_id, key="decision"))
            who = (event.get("responded_by_user") or {}).get("name") or ""
            approved = self.APPROVE in event["chosen_options"]
            with _opened() as (_, pool), pool.connection() as connection:
                taken = decisions.answer(connection, decision, approved=approved, actor=who)
            self.log.info("Decision %d: %s%s", decision, event["chosen_options"], "" if taken else ", which came too late")
        return super().execute_complete(context, event)


class ActOperator(_MonitorOperator):
    """Carry out what is approved: roll back at once, have the collection indexed.

    A training is not begun here: the triggerer claims its decision and updates ``ragworks.<family>.retrain``. Returns the runs
    of ``index_<collection>`` to start, with an id that is the decision's, so that none is started twice.
    """

    ui_color = "#e6f4ea"

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Act; twice changes nothing."""
        from include.monitoring.carrying import roll_back
        from include.store import decisions

        with _opened() as (settings, pool):
            known = _open_decision(settings, pool, self.collection)
            if known is None or known.state == "waiting" or known.action == "train":
                self.log.info("Nothing to carry out here")
                return []
            run_id = f"decision_{known.id}"
            run_key = f"index_{self.collection}/{run_id}" if known.action == "reindex" else self.run_key
            with pool.connection() as connection:
                mine = decisions.start(connection, known.id, run_key)
            if not mine:
                return []
            if known.action == "reindex":
                return [{"trigger_run_id": run_id, "conf": {"mode": "incremental"}}]
            if known.action == "rollback":
                self.log.info("Rolled back: %s", roll_back(settings, pool, known, f"airflow {self.run_key}"))
                for why in _tell(settings, pool, self.collection, self.log):
                    self.log.error("Not everybody was told, the next run tells them: %s", why)
                return []
            with pool.connection() as connection:
                decisions.finish(connection, known.id, {"note": "a person sees to it"})
        return []


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
                "a step of a monitor was stopped", "it reached its execution_timeout", "The retry goes on"
            ) from error


def _tell(settings: Settings, pool: Pool, collection: str, log: Any) -> list[str]:
    """Tell what is new through the log and each channel.

    :return: why channels did not take everything.
    """
    from include.monitoring.news import news
    from include.store import alerts
    from ragworks.notifiers import Message, channels, send

    failed: list[str] = []
    with pool.connection() as connection:
        key = _key(pool, collection)
        items = news(connection, settings.environment, key, collection)
        for channel in ("log", *channels()):
            for item in items:
                mark = f"{channel}:{item.key}"
                if alerts.was_told(connection, key, mark):
                    continue
                try:
                    if channel == "log":
                        log.warning("%s. %s", item.subject, item.text)
                    else:
                        send(channel, Message(item.subject, item.text))
                except (BadConfiguration, ServiceUnavailable) as error:
                    failed.append(str(error))
                    break  # what is next would fail as well; other channels may not
                except BadData as error:  # never through this channel: what is next is told all the same
                    log.error("Not told through %s: %s", channel, error)
                alerts.note_told(connection, key, mark)
                connection.commit()  # it is said: nothing that fails later may have it said again
    return failed


def _key(pool: Pool, collection: str) -> int:
    from include.store import collections

    with pool.connection() as connection:
        return collections.collection_id(connection, collection)


def _open_decision(settings: Settings, pool: Pool, collection: str) -> StoredDecision | None:
    from include.store import decisions

    key = _key(pool, collection)
    with pool.connection() as connection:
        return decisions.open_decision(connection, settings.environment, key)


def _alive(context: Context, run_key: str) -> bool:
    """Whether a run of Airflow goes on, this one aside."""
    dag_id, _, run_id = run_key.partition("/")
    mine = context["dag_run"]
    if not run_id or (dag_id, run_id) == (mine.dag_id, mine.run_id):
        return False
    return bool(context["ti"].get_dr_count(dag_id=dag_id, run_ids=[run_id], states=list(ALIVE)))

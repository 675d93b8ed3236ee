"""Each sensor says what it waits for; how they wait, survive a restart and give up is the same for all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator
from airflow.sdk.exceptions import AirflowSensorTimeout

from ragworks.triggers.condition import ConditionTrigger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

GRACE = timedelta(minutes=5)  # after the trigger's own time-out, whose message says more, Airflow's
RUN_START = "{{ dag_run.run_after.isoformat() }}"  # the same for every retry


class _WaitingSensor(BaseSensorOperator):
    """Look once, then leave the worker and wait in the triggerer.

    It fails with what was asked for and what there is after ``timeout`` seconds, and is skipped then when ``soft_fail`` is set.
    A retry after an error begins a new ``timeout``.

    :param collection: name of the collection (templated).
    :param poke_interval: seconds between two looks, 30 by default.
    :param timeout: seconds to wait at most, Airflow's ``[sensors] default_timeout`` (a week) by default.
    """

    condition = ""
    template_fields: Sequence[str] = ("collection",)
    ui_color = "#e6f1f2"

    def __init__(self, *, collection: str, poke_interval: timedelta | float = 30, **kwargs: Any) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.collection = collection

    def execute(self, context: Context) -> Any:
        """Look, and wait when it is not so yet. Returns the facts of the condition."""
        from include.monitoring.conditions import look
        from ragworks.hooks.ragworks import settings_from_airflow

        settings = settings_from_airflow()
        arguments = {"collection": self.collection, **self._arguments()}
        if found := self._baseline(settings):
            arguments |= found
        now = look(settings, self.condition, arguments)
        if now.met:
            self.log.info("At once: %s", now.facts)
            return now.facts
        self.log.info("Waiting at most %g s: %s", self.timeout, now.told)
        wait = timedelta(seconds=self.timeout)
        trigger = ConditionTrigger(
            self.condition, arguments, self.poke_interval, (datetime.now(UTC) + wait).isoformat(), self.timeout
        )
        self.defer(trigger=trigger, method_name="execute_complete", timeout=wait + GRACE)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Go on with what the trigger found.

        :raises AirflowSensorTimeout: it did not become so in time.
        """
        if event["status"] == "met":
            self.log.info("It is so: %s", event["facts"])
            return dict(event["facts"])
        raise AirflowSensorTimeout(f"{self.task_id}: {event['message']}")

    def _arguments(self) -> dict[str, Any]:
        return {}

    def _baseline(self, settings: Any) -> dict[str, Any]:
        """What a change is measured against, read once, at the start."""
        return {}


class IndexFreshSensor(_WaitingSensor):
    """Wait until the index shows its source as of a moment.

    :param since: ISO 8601; the run's start by default, so that what was written before it is in the index (templated).
    :param max_age: instead of ``since``: seconds that the index may be behind.
    """

    condition = "fresh_index"
    template_fields: Sequence[str] = ("collection", "since")

    def __init__(self, *, since: str = RUN_START, max_age: float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.since = since
        self.max_age = max_age

    def _arguments(self) -> dict[str, Any]:
        return {"since": self.since} if self.max_age is None else {"max_age": self.max_age}


class NewFeedbackSensor(_WaitingSensor):
    """Wait until people have judged so many answers.

    :param minimum: number of judgements.
    :param since: ISO 8601, counted from then on; the run's start by default (templated).
    """

    condition = "new_feedback"
    template_fields: Sequence[str] = ("collection", "since")

    def __init__(self, *, minimum: int = 1, since: str = RUN_START, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.minimum = minimum
        self.since = since

    def _arguments(self) -> dict[str, Any]:
        return {"minimum": self.minimum, "since": self.since}


class ChampionChangedSensor(_WaitingSensor):
    """Wait until another model of a family serves: promoted, or rolled back to.

    :param family: ``reranker``, ``embedder`` or ``llm`` (templated).
    :param than: id of the deployment that it must not be; None: the one that serves when the sensor starts (templated).
    """

    condition = "champion_changed"
    template_fields: Sequence[str] = ("collection", "family", "than")

    def __init__(self, *, family: str, than: int | str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.family = family
        self.than = than

    def _arguments(self) -> dict[str, Any]:
        return {"family": self.family}

    def _baseline(self, settings: Any) -> dict[str, Any]:
        from include.monitoring.conditions import look

        if self.than not in (None, ""):
            return {"than": int(str(self.than))}
        arguments = {"collection": self.collection, "family": self.family, "than": -1}
        return {"than": look(settings, self.condition, arguments).facts.get("deployment", 0)}


class SignalSensor(_WaitingSensor):
    """Wait until a signal of the monitor stands as asked; docs/monitoring.md lists the signals.

    The newest measurement counts. Values are asked of the interval: ``at_least`` of its lower end, ``at_most`` of its upper.

    :param signal: its name (templated).
    :param state: ``within`` or ``beyond``; None: any.
    :param at_least: smallest value.
    :param at_most: largest value.
    :param since: ISO 8601, measurements after it count; the run's start by default; empty: any (templated).
    """

    condition = "signal"
    template_fields: Sequence[str] = ("collection", "signal", "since")

    def __init__(
        self,
        *,
        signal: str,
        state: str | None = None,
        at_least: float | None = None,
        at_most: float | None = None,
        since: str = RUN_START,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.signal = signal
        self.state = state
        self.at_least = at_least
        self.at_most = at_most
        self.since = since

    def _arguments(self) -> dict[str, Any]:
        names = ("signal", "state", "at_least", "at_most", "since")
        return {name: value for name in names if (value := getattr(self, name)) not in (None, "")}


class QualitySensor(SignalSensor):
    """Wait until golden queries are answered as well as asked; by default within what is usual.

    :param at_least: nDCG@10 that the index surely has; without it: the signal is within its threshold.
    """

    def __init__(self, *, signal: str = "golden_ndcg", at_least: float | None = None, **kwargs: Any) -> None:
        super().__init__(signal=signal, at_least=at_least, state=None if at_least is not None else "within", **kwargs)


class DriftSensor(SignalSensor):
    """Wait until questions are surely others than they were."""

    def __init__(self, *, signal: str = "query_drift", state: str = "beyond", **kwargs: Any) -> None:
        super().__init__(signal=signal, state=state, **kwargs)

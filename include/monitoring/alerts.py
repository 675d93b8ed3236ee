"""What other systems send, understood: Alertmanager, Databricks, and a plain shape for everything else.

A report is a symptom. It has the monitor look at once; it trains nothing by itself. One that names a family of models asks for
a training, and the collection's policy decides about that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from include.config import FAMILIES
from include.errors import BadData

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LONGEST = 500  # characters of a title
MOST = 1000  # alerts in one delivery
Word = Annotated[str, Field(min_length=1, max_length=200)]


@dataclass(frozen=True, slots=True)
class Alert:
    """One report.

    :param key: names the occurrence at its source: the same key and state again is the same report.
    :param family: of the model that it asks to train; None: it asks for a look.
    :param detail: what people may want to see of it.
    """

    collection: str
    source: str
    key: str
    state: Literal["firing", "resolved"]
    title: str
    family: str | None
    detail: dict[str, Any]


class _Payload(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _One(_Payload):
    """One alert, by Alertmanager's names."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    startsAt: str
    fingerprint: Word
    generatorURL: str = ""

    @field_validator("startsAt")
    @classmethod
    def _is_a_moment(cls, value: str) -> str:
        datetime.fromisoformat(value)
        return value


class _Alertmanager(_Payload):
    """The body of Alertmanager's webhook_configs, version 4; Grafana sends the same."""

    version: Literal["4", "1"] = "4"
    alerts: list[_One] = Field(min_length=1, max_length=MOST)


class _Run(_Payload):
    run_id: int | str


class _Job(_Payload):
    job_id: int | str = ""
    name: str = ""


class _JobEvent(_Payload):
    """A notification of a Databricks job."""

    event_type: Word
    workspace_id: int | str = ""
    run: _Run
    job: _Job = _Job()


class _RegistryEvent(_Payload):
    """An event of a Databricks model registry webhook."""

    event: Word
    webhook_id: Word
    event_timestamp: int | str
    model_name: str = ""
    text: str = ""


class _Plain(BaseModel):
    """Everything else.

    :param key: of the occurrence: the same key again changes nothing.
    """

    model_config = ConfigDict(extra="forbid")

    key: Word
    title: Annotated[str, Field(min_length=1, max_length=LONGEST)]
    collection: str = ""
    family: str | None = None
    state: Literal["firing", "resolved"] = "firing"
    detail: dict[str, Any] = {}


def parse(source: str, payload: Any, *, collection: str = "", family: str = "") -> list[Alert]:
    """The reports in a delivery.

    :param source: ``alertmanager``, ``databricks`` or ``plain``.
    :param payload: the parsed JSON.
    :param collection: from the address; it wins over what the payload says, and stands in where it says nothing.
    :param family: the same.
    :raises BadData: the payload is not of that shape, or a report names no collection; nothing of it is to be taken.
    """
    _check_storable(source, payload)
    if not isinstance(payload, dict):
        raise BadData(f"{source} payload", f"it is a JSON {type(payload).__name__}", "Send an object")
    try:
        found = PARSERS[source](payload, collection, family)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'body'}: {one['msg']}" for one in error.errors()[:5])
        raise BadData(f"{source} payload", problems, "See docs/monitoring-airflow.md for the shape") from None
    for number, one in enumerate(found):
        if not one.collection:
            why = f"report {number} ({one.title!r}) names no collection"
            raise BadData(f"{source} payload", why, "Label it ragworks_collection, or add ?collection=NAME to the address")
        if one.family is not None and one.family not in FAMILIES:
            why = f"report {number}: there is no family {one.family!r}"
            raise BadData(f"{source} payload", why, f"Use one of {', '.join(FAMILIES)}, or none")
    return found


def _check_storable(source: str, payload: Any) -> None:
    """Of JSON, what Postgres does not keep.

    :raises BadData: a text has a null character or half a surrogate pair, or a number is none.
    """
    waiting = [payload]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += [*one, *one.values()]
        elif isinstance(one, list):
            waiting += one
        elif isinstance(one, str) and ("\0" in one or any("\ud800" <= letter <= "\udfff" for letter in one)):
            why = "a text in it has a null character, or half of a surrogate pair"
            raise BadData(f"{source} payload", why, "Send text that is Unicode")
        elif isinstance(one, float) and not math.isfinite(one):
            raise BadData(f"{source} payload", f"{one} is no number", "Send null in its place")


def _alertmanager(payload: Mapping[str, Any], collection: str, family: str) -> list[Alert]:
    return [
        Alert(
            collection or one.labels.get("ragworks_collection", ""),
            "alertmanager",
            f"{one.fingerprint}/{one.startsAt}",  # the same alert that fires anew is another occurrence
            one.status,
            (one.annotations.get("summary") or one.labels.get("alertname") or one.fingerprint)[:LONGEST],
            family or one.labels.get("ragworks_family") or None,
            {"labels": one.labels, "annotations": one.annotations, "url": one.generatorURL},
        )
        for one in _Alertmanager.model_validate(payload).alerts
    ]


def _databricks(payload: Mapping[str, Any], collection: str, family: str) -> list[Alert]:
    if "event_type" in payload:
        job = _JobEvent.model_validate(payload)
        key = f"{job.workspace_id}/{job.run.run_id}/{job.event_type}"
        title = f"{job.event_type}: {job.job.name or f'job {job.job.job_id}'}, run {job.run.run_id}"
        detail = job.model_dump(mode="json")
    else:
        event = _RegistryEvent.model_validate(payload)
        key = f"{event.webhook_id}/{event.event_timestamp}/{event.event}"
        title = event.text or f"{event.event}: {event.model_name}"
        detail = event.model_dump(mode="json")
    return [Alert(collection, "databricks", key[:LONGEST], "firing", title[:LONGEST], family or None, detail)]


def _plain(payload: Mapping[str, Any], collection: str, family: str) -> list[Alert]:
    one = _Plain.model_validate(payload)
    names = collection or one.collection, family or one.family or None
    return [Alert(names[0], "plain", one.key, one.state, one.title, names[1], one.detail)]


PARSERS: dict[str, Callable[[Mapping[str, Any], str, str], list[Alert]]] = {
    "alertmanager": _alertmanager,
    "databricks": _databricks,
    "plain": _plain,
}

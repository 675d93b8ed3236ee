"""Section `monitoring`: what is watched, and what may be done about it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from include.collection_file.section import Section

Policy = Literal["auto", "approve", "notify"]


class Policies(Section):
    """What may be done about a breach: by itself (`auto`), after a person's click (`approve`), or only said (`notify`)."""

    reindex: Policy = "auto"
    refresh_golden: Policy = "notify"
    reranker: Policy = "approve"
    embedder: Policy = "approve"
    llm: Policy = "notify"
    rollback: Policy = "approve"


class Monitoring(Section):
    """What is watched, when it counts as a breach, and what may be done about it.

    :param schedule: cron expression, in UTC; null: by hand and by events alone.
    :param window_hours: length of a window; windows lie on a grid from Monday, 2024-01-01 00:00 UTC.
    :param reference_days: how much of the log, from its first question on, is taken as usual.
    :param minimum_sample: questions, answers or thumbs below which a signal says nothing; its window is joined to the next.
    :param false_alarms: breaches a week, of all signals together, that chance alone may make.
    :param cool_down_days: a signal whose breach ended makes no new one for so long.
    :param training_cool_down_days: nothing is trained for so long after a training that monitoring asked for.
    :param minimum_labels: judged questions, new since the last training, below which nothing is trained.
    :param gpu_hours_a_month: of all trainings of the collection in the last 30 days; beyond it nothing is trained by itself.
    :param freshness_hours: age of the last complete index run that is too old; null: not watched.
    :param golden: ask the golden queries, when there are any.
    :param shadow: share of live questions that a challenger answers too, unseen, after the reply.
    :param policy: what may be done, by action.
    """

    schedule: str | None = "30 5 * * *"
    window_hours: float = Field(default=24, ge=0.01, le=24 * 31)
    reference_days: float = Field(default=7, gt=0, le=365)
    minimum_sample: int = Field(default=100, ge=20, le=100_000)
    false_alarms: float = Field(default=0.05, gt=0, le=0.5)
    cool_down_days: float = Field(default=3, ge=0, le=365)
    training_cool_down_days: float = Field(default=7, ge=0, le=365)
    minimum_labels: int = Field(default=100, ge=1)
    gpu_hours_a_month: float = Field(default=20, ge=0)
    freshness_hours: float | None = Field(default=None, gt=0)
    golden: bool = True
    shadow: float = Field(default=0, ge=0, le=1)
    policy: Policies = Policies()

    @field_validator("schedule")
    @classmethod
    def _cron_is_valid(cls, value: str | None) -> str | None:
        from croniter import croniter

        if value is not None and not croniter.is_valid(value):
            raise ValueError(f"{value!r} is not a cron expression; an example is '30 5 * * *'")
        return value

"""What a decision needs to know besides the signals, read from the rows of trainings and promotions."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from include.config import FAMILIES
from include.monitoring.catalogue import SIGNALS
from include.monitoring.decision import Facts, Promotion
from include.store import decisions, deployments, model_runs, monitored, training_locks

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from include.config import Settings
    from include.monitoring.breach import Breach
    from include.store.model_runs import ModelRun
    from include.store.pool import Connection

NEXT = timedelta(days=1)  # after which a step of a training that nobody works on is not taken up any more


def gather(connection: Connection, settings: Settings, collection: int, breaches: Sequence[Breach], at: datetime) -> Facts:
    """Facts as of a time.

    :param breaches: open ones.
    """
    runs = [run for run in model_runs.runs_of(connection, collection=collection) if run.created_at <= at]
    held = training_locks.at_work(connection)
    live = [deployments.deployed(connection, settings.environment, family, collection) for family in FAMILIES]
    promoted = sorted(
        (
            Promotion(d.family, d.version, d.created_at)
            for d in live
            if d is not None and d.version is not None and d.action == "promote" and d.created_at <= at
        ),
        key=lambda p: p.at,
        reverse=True,
    )
    began = min((b.since or b.opened_at for b in breaches), default=at)
    wanting = min((b.since or b.opened_at for b in breaches if SIGNALS[b.signal].group == "coverage"), default=None)
    last = {run.family: run.created_at for run in reversed(runs) if run.state != "failed"}
    waiting = decisions.open_decision(connection, settings.environment, collection)
    return Facts(
        labels={f: monitored.labels_since(connection, collection, last.get(f), at) for f in FAMILIES},
        gpu_hours=float(monitored.surroundings(connection, collection, began, at)["gpu_seconds"]) / 3600,
        named=monitored.named_since(connection, collection, wanting, at) if wanting else 0,
        running=tuple(sorted({run.family for run in runs if goes_on(run, held, at)})),
        trained=decisions.last_training(connection, settings.environment, collection, at),
        promotions=tuple(promoted),
        tried=tuple(p.family for p in promoted if p.at > began),
        open_decision=None if waiting is None or waiting.at >= at else said(waiting),
        llm=bool(settings.llm_base_url),
    )


def goes_on(run: ModelRun, held: Collection[int], at: datetime) -> bool:
    """Whether somebody works on a training, or may take it up soon. Pure.

    A process that died, or a person who gave up, leaves an unfinished row and no lock: it is not waited for for ever.

    :param held: keys of the locks of trainings.
    """
    if run.state not in model_runs.UNFINISHED:
        return False
    return training_locks.second_key(run.id) in held or at - (run.finished_at or run.started_at or run.created_at) < NEXT


def said(waiting: decisions.StoredDecision) -> str:
    """A decision that is open, in words."""
    what = " ".join(part for part in (waiting.action, waiting.family) if part)
    return f"decision {waiting.id} ({what}) is {waiting.state}"


def as_dict(facts: Facts) -> dict[str, Any]:
    """For the evidence of a decision."""
    return {
        "labels": dict(facts.labels), "named": facts.named, "gpu_hours": round(facts.gpu_hours, 3),
        "running": list(facts.running),
        "trained": facts.trained.isoformat() if facts.trained else None,
        "promotions": [f"{p.family} {p.version}, {p.at.isoformat(timespec='seconds')}" for p in facts.promotions],
        "tried": list(facts.tried), "open_decision": facts.open_decision, "llm": facts.llm,
    }  # fmt: skip

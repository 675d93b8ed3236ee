"""What a decision needs to know besides the signals, read from the rows of trainings and promotions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include.config import FAMILIES
from include.monitoring.decision import Facts, Promotion
from include.store import decisions, deployments, model_runs, monitored

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from include.config import Settings
    from include.monitoring.breach import Breach
    from include.store.pool import Connection

AT_WORK = ("planned", "training", "interrupted", "trained", "evaluated")


def gather(connection: Connection, settings: Settings, collection: int, breaches: Sequence[Breach], at: datetime) -> Facts:
    """Facts as of a time.

    :param breaches: open ones.
    """
    runs = [run for run in model_runs.runs_of(connection, collection=collection) if run.created_at <= at]
    before = decisions.history(connection, settings.environment, collection)
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
    last = {run.family: run.created_at for run in reversed(runs) if run.state != "failed"}
    waiting = decisions.open_decision(connection, settings.environment, collection)
    return Facts(
        labels={f: monitored.labels_since(connection, collection, last.get(f), at) for f in FAMILIES},
        gpu_hours=float(monitored.surroundings(connection, collection, began, at)["gpu_seconds"]) / 3600,
        running=tuple(sorted({run.family for run in runs if run.state in AT_WORK and run.finished_at is None})),
        trained=max((d.at for d in before if d.action == "train" and d.state != "refused" and d.at < at), default=None),
        promotions=tuple(promoted),
        tried=tuple(p.family for p in promoted if p.at > began),
        open_decision=None if waiting is None or waiting.at >= at else _said(waiting),
        llm=bool(settings.llm_base_url),
    )


def _said(waiting: decisions.StoredDecision) -> str:
    what = " ".join(part for part in (waiting.action, waiting.family) if part)
    return f"decision {waiting.id} ({what}) is {waiting.state}"


def as_dict(facts: Facts) -> dict[str, Any]:
    """For the evidence of a decision."""
    return {
        "labels": dict(facts.labels), "gpu_hours": round(facts.gpu_hours, 3), "running": list(facts.running),
        "trained": facts.trained.isoformat() if facts.trained else None,
        "promotions": [f"{p.family} {p.version}, {p.at.isoformat(timespec='seconds')}" for p in facts.promotions],
        "tried": list(facts.tried), "open_decision": facts.open_decision, "llm": facts.llm,
    }  # fmt: skip

"""Who carries a decision out: a run takes it up by its row, so an event that is lost, late or doubled changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include.store import awaited, collections, decisions, deployments, model_runs

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from include.config import Settings
    from include.store.decisions import StoredDecision
    from include.store.pool import Pool


class TakenAlready(Exception):
    """The decisions that started this run are carried out by another one, or are over."""


def begin_training(
    pool: Pool, environment: str, family: str, collection: str, run_key: str, asked: Collection[int] = ()
) -> StoredDecision | None:
    """The decision that this training carries out; None: it was asked for in another way.

    :param asked: decisions that its events name. They only say that somebody was woken: what is to be done is read here.
    :raises TakenAlready: it was woken for decisions alone, and none of them is left to carry out.
    """
    with pool.connection() as connection:
        if (known := decisions.of_run(connection, run_key)) is not None:  # a retry
            return known
        found = decisions.open_decision(connection, environment, collections.collection_id(connection, collection))
        mine = found is not None and (found.action, found.family) == ("train", family)
        if found is not None and mine and decisions.start(connection, found.id, run_key):
            return decisions.by_id(connection, found.id)
        if asked:
            told = [_told(decisions.by_id(connection, one)) for one in sorted(asked)]
            raise TakenAlready(f"{'; '.join(told)}: nothing is trained twice")
    return None


def end_training(pool: Pool, run_key: str, failed: Collection[str], *, note: str = "") -> dict[str, Any]:
    """Write down how a training ended, on its own row and on that of the decision that asked for it.

    A training whose run failed in a way that its command could not note (killed, out of retries) is noted as failed here,
    so that the monitor counts it.

    :param failed: names of its run's tasks that failed.
    :param note: why nothing was trained.
    :return: state, version, promoted, failed, error of the training.
    """
    with pool.connection() as connection:
        run = model_runs.find(connection, run_key)
        if run is not None and failed and run.state in model_runs.UNFINISHED:
            error = run.error or f"its run failed in {', '.join(sorted(failed))}"
            model_runs.change(connection, run.id, state="failed", error=error, finished_at="now")
            run = model_runs.find(connection, run_key)
        outcome: dict[str, Any] = {"state": run.state if run else "failed" if failed else "skipped"}
        if run is not None:
            outcome |= {"version": run.version, "error": run.error, "promoted": awaited.serves(connection, run.id)}
        outcome |= {"failed": sorted(failed)} | ({"note": note} if note else {})
        decision = decisions.of_run(connection, run_key)
        if decision is not None:
            decisions.finish(connection, decision.id, outcome)
        return outcome


def roll_back(settings: Settings, pool: Pool, decision: StoredDecision, actor: str) -> Mapping[str, Any]:
    """Go back to the model before, as decided; a retry does not go forward again.

    :return: what came of it, which is also kept.
    """
    from include.registry.rollback import roll_back_model

    family = decision.family or ""
    with pool.connection() as connection:
        live = deployments.deployed(connection, settings.environment, family, decision.collection_id)
    if live is None or live.created_at > decision.created_at:
        outcome: dict[str, Any] = {"state": "done", "note": "what serves has changed since: nothing is rolled back"}
        if live is not None and live.action == "rollback":
            outcome = {"state": "done", "version": live.version}
    else:
        found = roll_back_model(
            settings, pool, family, collection=decision.collection, actor=actor, reason=decision.reason, ended="failed"
        )
        outcome = {"state": "done", "version": found["version"], "replaced": found["replaced"]}
    with pool.connection() as connection:
        decisions.finish(connection, decision.id, outcome)
    return outcome


def _told(decision: StoredDecision | None) -> str:
    if decision is None:
        return "a decision that is gone"
    by = f", carried out by {decision.run_key}" if decision.run_key else ""
    return f"decision {decision.id} is {decision.state}{by}"

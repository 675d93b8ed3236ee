"""Puts a trained model to work: at once, but an embedder by an index of its own that is compared before it answers."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from include.collection_file import CHAMPION, load_collection
from include.errors import BadConfiguration, BadData, RagworksError, Transient
from include.progress import Silent
from include.registry.compared import require_compared, standing
from include.registry.embedder_promotion import promote_embedder
from include.registry.rollback import roll_back_model
from include.registry.versions import register, sync_aliases
from include.store import collections, deployments, model_versions

if TYPE_CHECKING:
    from collections.abc import Callable

    from include.config import Settings
    from include.progress import Progress
    from include.store.deployments import Deployment
    from include.store.model_runs import ModelRun
    from include.store.pool import Connection, Pool

logger = logging.getLogger(__name__)

__all__ = ["copy_version", "promote", "roll_back_model"]


@dataclass(frozen=True, slots=True)
class Promotion:
    """What is to be promoted, and who says so.

    :param unproved: a person wants it although the gate has not accepted it.
    :param before: what served when it was found that the model was compared with that; None: that is not asked.
    """

    settings: Settings
    pool: Pool
    collection: str
    collection_id: int
    run: ModelRun
    version: int
    actor: str
    reason: str
    unproved: bool
    progress: Progress
    before: tuple[object, ...] | None = None

    @property
    def artifact(self) -> str:
        """Reference of the model."""
        return self.run.artifact or ""

    def require_unchanged(self, connection: Connection) -> None:
        """Ask again, under the lock of the deployments: two models that won at once would be a pair that nobody compared.

        :raises Transient: something was promoted or rolled back since.
        """
        if self.before is not None and standing(connection, self.settings, self.collection_id) != self.before:
            raise Transient(
                f"{self.run.family} {self.version} of {self.collection} was not promoted", "another was, at the same time",
                "Run again: then it is told whether its comparison still counts",
            )  # fmt: skip


def promote(
    settings: Settings,
    pool: Pool,
    family: str,
    version: int,
    *,
    collection: str,
    actor: str = "",
    reason: str = "",
    unproved: bool = False,
    as_compared: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Have a version serve in this environment; again changes nothing.

    An embedder is live when its index is: that takes as long as a run. Killed on the way it is gone on with by the next
    promotion of it, or the next run of the collection.

    :param unproved: also when the gate has not accepted it; the history says so.
    :param as_compared: only while what it was compared with serves, unless it serves itself; without, also over another one,
        as a person may want who goes back.
    :return: family, collection, environment, version, run_key, deployment, replaced (a version, None: none), changed (False: it
        served already), unproved, seconds; of an embedder also generation and embedded.
    :raises BadData: there is no such version; the gate has not accepted it; it was compared with another than serves; the new
        index is worse than the live one.
    :raises BadConfiguration: the collection file does not ask for the champion, or the model does not open.
    :raises Transient: another promotion is going on.
    """
    started = time.monotonic()
    with pool.connection() as connection:
        collection_id = collections.collection_id(connection, collection)
        run = model_versions.run_of(connection, settings.environment, family, collection_id, version)
        before = standing(connection, settings, collection_id) if as_compared else None
    if not unproved:
        _require_proof(run, version)
    if as_compared:
        require_compared(settings, pool, collection, run)
    wanted = Promotion(
        settings, pool, collection, collection_id, run, version, actor, reason, unproved, progress or Silent(), before
    )  # fmt: skip
    if family == "embedder":
        found = promote_embedder(wanted)
    elif family in _AT_ONCE:
        found = _promote_at_once(wanted)
    else:
        raise BadConfiguration(f"family {family!r}", "it cannot be promoted", "Use reranker, embedder or llm")
    if found.pop("changed"):
        sync_aliases(settings, pool, family, collection)
        changed = True
    else:
        changed = False
    live: Deployment = found.pop("live")
    return {
        "family": family, "collection": collection, "environment": settings.environment, "version": version,
        "run_key": run.run_key, "deployment": live.id, "replaced": _version_before(pool, live), "changed": changed,
        "unproved": bool(live.settings.get("unproved")), **found, "seconds": round(time.monotonic() - started, 3),
    }  # fmt: skip


def copy_version(settings: Settings, pool: Pool, family: str, version: int, *, collection: str, source: str) -> int:
    """The version here of a model that another environment of the same database registered; made when there is none.

    :param source: the other environment; ``version`` is its number there.
    :raises BadData: it has no such version.
    """
    with pool.connection() as connection:
        collection_id = collections.collection_id(connection, collection)
        run = model_versions.run_of(connection, source, family, collection_id, version)
    return register(settings, pool, run.run_key)


def _require_proof(run: ModelRun, version: int) -> None:
    if run.state == "accepted":
        return
    gate = run.gate or {}
    reasons = (
        "; ".join(str(reason) for reason in gate.get("reasons", ())) or f"its training is {run.state}: nothing was compared"
    )
    raise BadData(
        f"{run.family} {version} was not accepted by the gate", reasons,
        "Train a better one; a person may promote it all the same with --unproved",
    )  # fmt: skip


def _promote_at_once(wanted: Promotion) -> dict[str, Any]:
    family, environment, pool = wanted.run.family, wanted.settings.environment, wanted.pool
    setting, opened = _AT_ONCE[family]
    section, field = setting.split(".")
    asked = getattr(getattr(load_collection(wanted.settings, wanted.collection), section), field)
    if asked != CHAMPION:
        raise BadConfiguration(
            f"collection {wanted.collection}", f"its {setting} is {asked or 'null'}, so no champion would be used",
            "Set it to champion, or leave it out",
        )  # fmt: skip
    fitted = opened(wanted)
    if wanted.unproved and wanted.run.state != "accepted":
        fitted |= {"unproved": True}
    with pool.connection() as connection, connection.transaction():
        deployments.lock(connection, wanted.collection_id)
        live = deployments.deployed(connection, environment, family, wanted.collection_id)
        if live is not None and live.model_run_id == wanted.run.id:
            return {"live": live, "changed": False}
        wanted.require_unchanged(connection)
        live = deployments.put_live(
            connection, environment, family, wanted.collection_id,
            model_run=wanted.run.id, version=wanted.version, settings=fitted, reason=wanted.reason, actor=wanted.actor,
        )  # fmt: skip
    logger.info("%s %d serves %s in %s", family, wanted.version, wanted.collection, environment)
    return {"live": live, "changed": True}


def _opened_reranker(wanted: Promotion) -> dict[str, Any]:
    """What there is to note of a reranker, which reads a pair first: one that does not open must not be put to work."""
    from include.retrieval.rerank import open_reranker
    from include.retrieval.stage import warm

    wanted.progress.step("load the model", None)
    try:
        model = open_reranker(wanted.artifact, wanted.settings)
        if model is None:
            raise BadData(f"reranker {wanted.version}", "its training left no model")
        warm(model)
    except RagworksError:
        raise
    except Exception as error:  # whatever a library raises for a file that is not what it was
        raise BadData(
            f"reranker {wanted.version} does not open", f"{type(error).__name__}: {error}", "Train it again"
        ) from error
    fitted: dict[str, Any] = {"fingerprint": model.fingerprint}
    if model.weight is not None:
        fitted["rerank_weight"] = model.weight
    return fitted


def _opened_llm(wanted: Promotion) -> dict[str, Any]:
    """What there is to note of a language model, whose adapter is put on the modules of its base first."""
    from include.registry.llm_models import check_fit, open_trained

    wanted.progress.step("open the adapter and its base", None)
    trained = open_trained(wanted.settings, wanted.artifact, wanted.run.base, fingerprint=wanted.run.fingerprint)
    check_fit(trained)
    return trained.facts


# family → the setting of the collection file that must ask for a champion, and what opens a model of it.
_AT_ONCE: dict[str, tuple[str, Callable[[Promotion], dict[str, Any]]]] = {
    "reranker": ("retrieval.reranker", _opened_reranker),
    "llm": ("answers.llm", _opened_llm),
}


def _version_before(pool: Pool, live: Deployment) -> int | None:
    if live.replaces is None:
        return None
    with pool.connection() as connection:
        return deployments.by_id(connection, live.replaces).version

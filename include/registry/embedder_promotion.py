"""Promotes an embedder: an index is built with its vectors, compared with the live one, and swapped; all as any run does it.

The row of the promotion says `pending` until the swap makes both the index and the row live. So whoever comes next can go on
with a promotion whose process died: the same command, or any run of the collection.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from include.collection_file import CHAMPION, load_collection
from include.embedding.embedder import open_embedder
from include.errors import BadConfiguration, BadData, RagworksError, Terminal, Transient
from include.indexing.context import open_context
from include.indexing.pipeline import index_collection
from include.indexing.spec import generation_spec, spec_hash
from include.registry.champions import named
from include.store import collections, deployed_embedders, deployments, generations

if TYPE_CHECKING:
    from include.indexing.context import IndexContext
    from include.registry.promotion import Promotion
    from include.store.deployments import Deployment
    from include.store.pool import Connection

logger = logging.getLogger(__name__)

FAMILY = "embedder"
TRIES = 5  # runs that may meet another one
POLL_SECONDS = 0.5


def promote_embedder(wanted: Promotion) -> dict[str, Any]:
    """Build, compare, swap; parameters and errors as :func:`include.registry.promotion.promote`."""
    collection = load_collection(wanted.settings, wanted.collection)
    if collection.embedding.model != CHAMPION:
        raise BadConfiguration(
            f"collection {wanted.collection}", f"its embedding.model is {collection.embedding.model!r}, not {CHAMPION!r}",
            f"Set embedding.model to {CHAMPION}, and embedding.base to {collection.embedding.model}, which serves until then",
        )  # fmt: skip
    fingerprint = _opened(wanted)
    with deployments.promoting(wanted.pool, wanted.collection_id) as held:
        if not held:
            raise Transient(
                f"another embedder of {wanted.collection} is being promoted, or rolled back", "one at a time",
                "Run again when it is done",
            )  # fmt: skip
        before = _live(wanted)
        if before is not None and before.model_run_id == wanted.run.id and _serves(wanted, fingerprint):
            return _result(wanted, before, 0, changed=False)
        began = _begin(wanted, fingerprint, before)
        embedded = _build(wanted, began) if began.state == "pending" or not _serves(wanted, fingerprint) else 0
        _drop_candidates(wanted)
        return _result(wanted, _of(wanted, began.id), embedded, changed=True)


def _opened(wanted: Promotion) -> str:
    """The fingerprint of the model, which embeds a text first."""
    embedding = load_collection(wanted.settings, wanted.collection).embedding
    wanted.progress.step("load the model", None)
    try:
        embedder = open_embedder(named(embedding, wanted.artifact), wanted.settings)
        embedder.embed_query("first question")
    except RagworksError:
        raise
    except Exception as error:  # whatever a library raises for a file that is not what it was
        raise BadData(
            f"embedder {wanted.version} does not open", f"{type(error).__name__}: {error}", "Train it again"
        ) from error
    return embedder.fingerprint


def _begin(wanted: Promotion, fingerprint: str, before: Deployment | None) -> Deployment:
    """The pending row, also that of a process that died; live at once when the index is there already."""
    environment = wanted.settings.environment
    with wanted.pool.connection() as connection, connection.transaction():
        deployments.lock(connection, wanted.collection_id)
        _refuse_two_environments(connection, wanted, fingerprint)
        if before is not None and before.model_run_id == wanted.run.id:
            return before  # it serves by its row; its index is to be built again
        waiting = deployments.pending(connection, environment, FAMILY, wanted.collection_id)
        if waiting is None or waiting.model_run_id != wanted.run.id:
            wanted.require_unchanged(connection)
        if waiting is not None and waiting.model_run_id != wanted.run.id:
            deployments.fail(connection, waiting.id, f"given up for version {wanted.version}")
            waiting = None
        if waiting is None:
            unproved = {"unproved": True} if wanted.unproved and wanted.run.state != "accepted" else {}
            index = deployed_embedders.live_embedder(connection, wanted.collection_id)
            waiting = deployments.begin(
                connection, environment, FAMILY, wanted.collection_id,
                model_run=wanted.run.id, version=wanted.version, reason=wanted.reason, actor=wanted.actor,
                settings={"embedder": fingerprint, "before": index, **unproved},
            )  # fmt: skip
        deployed_embedders.follow_index(connection, wanted.collection_id)
        return deployments.by_id(connection, waiting.id)


def _refuse_two_environments(connection: Connection, wanted: Promotion, fingerprint: str) -> None:
    """An index has one embedder: two environments on one database would swap it to and fro."""
    index = deployed_embedders.live_embedder(connection, wanted.collection_id)
    for other in deployments.of_family(connection, FAMILY, wanted.collection_id):
        theirs = other.settings.get("embedder")
        if other.environment != wanted.settings.environment and other.state == "live" and theirs == index != fingerprint:
            raise BadConfiguration(
                f"collection {wanted.collection}", f"its one index serves {other.environment} with embedder {other.version}",
                "Give each environment a database, or a collection of its own",
            )  # fmt: skip


def _build(wanted: Promotion, began: Deployment) -> int:
    """Runs of the collection until the model's index is live; returns the texts that were embedded.

    :raises BadData: a gate stopped it; the promotion has failed.
    """
    embedded = 0
    try:
        for _ in range(TRIES):
            with open_context(wanted.settings, wanted.collection, progress=wanted.progress) as context:
                _lift_hold(context, wanted.collection_id)
                try:
                    run = index_collection(context, key=f"promote-{began.id}")
                    embedded += int(run["chunks"]["embedded"])
                except Transient as error:
                    logger.warning("promotion %d: %s; the run is made again", began.id, error)
            now = _of(wanted, began.id)
            if now.state == "failed":
                raise BadData(f"embedder {now.version} was not promoted", now.reason, "See: ragworks models embedder")
            if now.state == "live" and _serves(wanted, str(now.settings["embedder"])):
                return embedded
            _wait_for_others(wanted, str(now.settings["embedder"]))
    except Terminal:
        with wanted.pool.connection() as connection:  # the message may name documents, which `forget` finds in runs alone
            deployments.fail(connection, began.id, f"its run stopped, see: ragworks runs {wanted.collection}")
        raise
    raise Transient(
        f"the index of embedder {began.version} is not live yet", "other runs came in between", "Run again: it is gone on with"
    )


def _lift_hold(context: IndexContext, collection: int) -> None:
    """A person asks for these settings, which were rolled back or refused before."""
    wanted = spec_hash(generation_spec(context.collection, context.embedder))
    with context.pool.connection() as connection:
        if collections.held_spec(connection, collection) == wanted:
            collections.hold_spec(connection, collection, None)


def _wait_for_others(wanted: Promotion, fingerprint: str) -> None:
    """While another run builds this very index."""
    while True:
        with wanted.pool.connection() as connection:
            found = generations.generations(connection, wanted.collection_id)
            building = next((g for g in found if g.state == "building" and g.embedder == fingerprint), None)
            if building is None or not generations.attended(connection, building.id):
                return
        time.sleep(POLL_SECONDS)


def _serves(wanted: Promotion, fingerprint: str) -> bool:
    with wanted.pool.connection() as connection:
        return deployed_embedders.live_embedder(connection, wanted.collection_id) == fingerprint


def _live(wanted: Promotion) -> Deployment | None:
    with wanted.pool.connection() as connection:
        return deployments.deployed(connection, wanted.settings.environment, FAMILY, wanted.collection_id)


def _of(wanted: Promotion, deployment: int) -> Deployment:
    with wanted.pool.connection() as connection:
        return deployments.by_id(connection, deployment)


def _drop_candidates(wanted: Promotion) -> None:
    """Indexes that models were tried on: the live one has this one's vectors, and others are to be compared with it anew."""
    from include.indexing.candidate import drop_candidates

    drop_candidates(wanted.pool, wanted.collection_id)


def _result(wanted: Promotion, live: Deployment, embedded: int, *, changed: bool) -> dict[str, Any]:
    with wanted.pool.connection() as connection:
        index = generations.require_live(connection, wanted.collection_id, wanted.collection)
    return {"live": live, "changed": changed, "generation": index.id, "embedded": embedded}

"""Steps 3 and 4 of a run: judge the whole of it, then make it live in one transaction, all or nothing."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from include.errors import BadData, Transient
from include.evaluation.generation_gate import compare_generations
from include.indexing.merge import CATCH_UPS, Behind, check, publish_changes, remove, scrub_kept
from include.indexing.serving import keep_serving
from include.indexing.worker import drain
from include.quality.gates import check_quality
from include.store import (
    changes,
    chunks,
    collections,
    deployed_embedders,
    documents,
    generations,
    kept_out,
    quarantine,
    query_log,
    runs,
    work_items,
)

if TYPE_CHECKING:
    from include.evaluation.gate_report import GateReport
    from include.indexing.context import IndexContext
    from include.store.generations import Generation
    from include.store.pool import Connection
    from include.store.runs import Run

logger = logging.getLogger(__name__)

ANALYZE_SHARE = 0.1  # of the chunks changed: the planner's statistics are refreshed at once


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did.

    :param changed: False when there was nothing to publish.
    :param total: chunks that answer queries now.
    """

    run: int
    generation: int
    changed: bool
    total: int
    embedded: int
    reused: int
    written: int
    deleted: int
    quarantined: int


def validate_run(context: IndexContext, key: str) -> None:
    """Judge the run: everything embedded, not too much refused, not too much deleted.

    :raises BadData: a limit of the collection's ``validation`` is exceeded; nothing was published.
    :raises Transient: the source keeps changing.
    """
    for _ in range(CATCH_UPS):
        with context.pool.connection() as connection:
            run, target = _open(context, connection, key)
            try:
                if not _replaced(context, connection, target):
                    check(context, connection, run, target)
                return
            except Behind:
                connection.commit()  # what is queued
            except BadData as error:
                runs.finish_run(connection, run.id, "failed", str(error))
                connection.commit()
                raise
        _catch_up(context, run, target)
    raise _never_catches_up()


def publish_run(context: IndexContext, key: str) -> Outcome:
    """Make the run's changes visible to queries in one transaction; running it twice changes nothing.

    :raises BadData: as :func:`validate_run`, judged again on the state that is published; or the new generation is worse.
    :raises Transient: the source keeps changing, or another generation went live.
    """
    for _ in range(CATCH_UPS):
        with context.pool.connection() as connection:
            run, target = _open(context, connection, key)
        keep_serving(context, run, target)
        try:
            return _publish_once(context, key)
        except Behind:
            _catch_up(context, run, target)
    raise _never_catches_up()


def finish_idle(context: IndexContext, key: str) -> None:
    """Close a run whose plan found nothing to do."""
    with context.pool.connection() as connection:
        run, target = _open(context, connection, key)
        runs.supersede_running(connection, run)
        runs.save_done(connection, run)
        runs.finish_run(connection, run.id, "done")
        query_log.expire(connection, target.collection_id, context.collection.query_log)


def _never_catches_up() -> Transient:
    return Transient("documents are still to be embedded", "the source changes as quickly as they are embedded", "Run again")


def _publish_once(context: IndexContext, key: str) -> Outcome:
    started = time.monotonic()
    with context.pool.connection() as connection:
        run, target = _open(context, connection, key)
        if target.state == "building":
            _prepare(context, connection, run, target)
        with connection.transaction():
            collections.lock_collection(connection, target.collection_id)
            target = generations.generation(connection, target.id)
            changed = _publish(context, connection, run, target)
            if changed or runs.ended_badly(connection, run):
                work_items.clear_out_of_service(connection, target.collection_id)
                generations.drop_old(connection, target.collection_id, keep=context.collection.generations.keep)
                documents.collect_garbage(connection, target.collection_id)
            quarantine.acknowledge(connection, target.collection_id, target.id)
            runs.supersede_running(connection, run)
            runs.add_seconds(connection, run.id, "publish", time.monotonic() - started)
            runs.save_done(connection, run)
            runs.finish_run(connection, run.id, "done")
        outcome = _outcome(connection, key, target, changed)
        if outcome.written + outcome.deleted > ANALYZE_SHARE * outcome.total:  # of less, autovacuum takes care
            generations.analyze(connection, target)
            connection.commit()
            work_items.give_space_back(connection)
        query_log.expire(connection, target.collection_id, context.collection.query_log)
        return outcome


def _catch_up(context: IndexContext, run: Run, target: Generation) -> None:
    """Embed what another run brought into the source's tables since this one was planned.

    Without it a generation that was built meanwhile would go live without documents that the live one already shows.
    """
    keep_serving(context, run, target)
    with context.pool.connection() as connection:
        work_items.enqueue_pending(connection, target.collection_id, target.id, run.id)
    drain(context, run, target)


def _open(context: IndexContext, connection: Connection, key: str) -> tuple[Run, Generation]:
    collection = collections.collection_id(connection, context.collection.name)
    run = runs.run_by_key(connection, collection, key)
    target = generations.generation(connection, run.generation_id or 0)
    connection.commit()
    return run, target


def _prepare(context: IndexContext, connection: Connection, run: Run, built: Generation) -> None:
    """Build the vector index of a loaded generation, and compare it with the live one.

    :raises BadData: it is worse: it is kept as failed, and not built again by itself.
    """
    check(context, connection, run, built)
    connection.commit()
    with generations.attending(connection, built.id):
        context.progress.step("build the vector index", None)
        index = context.for_generation(built).collection.index
        generations.build_index(connection, built, m=index.m, ef_construction=index.ef_construction)
        generations.analyze(connection, built)
        connection.commit()
        live = generations.live_generation(connection, built.collection_id)
        connection.commit()
        report = compare_generations(
            context.pool, built.collection_id, live, built,
            lambda asked: context.for_generation(asked).embedder, progress=context.progress,
        )  # fmt: skip
        report = _less_forgotten(connection, built.collection_id, report)
        try:
            check_quality(report, context.collection.generations.max_quality_loss, name=context.collection.name)
        except BadData:
            generations.fail(connection, built, report.as_dict())
            collections.hold_spec(connection, built.collection_id, built.spec_hash)
            deployed_embedders.follow_index(connection, built.collection_id)
            connection.commit()
            raise
        generations.save_gate(connection, built.id, report.as_dict())
        connection.commit()


def _less_forgotten(connection: Connection, collection: int, report: GateReport) -> GateReport:
    """The report without documents that were erased while it was made."""
    held = kept_out.hold(connection, {collection: [d for loss in report.worst for d in loss.documents]})
    gone = held.get(collection, set())
    sanity = _less_forgotten(connection, collection, report.sanity) if report.sanity else None
    return replace(report, worst=tuple(loss for loss in report.worst if not gone & set(loss.documents)), sanity=sanity)


def _publish(context: IndexContext, connection: Connection, run: Run, target: Generation) -> bool:
    """Whether anything changed for those who query."""
    if target.state == "live":
        return publish_changes(context, connection, run, target)
    if _replaced(context, connection, target):
        return False
    environment = context.settings.environment
    if context.follows_champion and deployed_embedders.is_left(connection, environment, target.collection_id, target.embedder):
        raise Transient(f"generation {target.id} is of an embedder that was left meanwhile", "another one serves", "Run again")
    check(context, connection, run, target)
    context.progress.step("publish", None)
    if generations.any_unscrubbed(connection, target.collection_id):
        scrub_kept(context, connection, target.collection_id)
    remove(connection, target)
    chunks.refresh_metadata(connection, target.id)
    generations.make_live(connection, target)
    collections.hold_spec(connection, target.collection_id, None)
    deployed_embedders.follow_index(connection, target.collection_id)
    runs.add_counts(connection, run.id, written=chunks.count_chunks(connection, target))
    logger.info("generation %d is live", target.id)
    return True


def _replaced(context: IndexContext, connection: Connection, target: Generation) -> bool:
    """Whether another generation took this one's place, and shows the same documents: then nothing is lost.

    :raises BadData: it was refused.
    :raises Transient: the other took its place and lacks something.
    """
    if target.state in ("building", "live"):
        return False
    name = context.collection.name
    if target.state == "failed":
        raise BadData(
            f"generation {target.id} was refused by the quality gate", "the one before stays live",
            f"See `ragworks generations {name}`; take it all the same with: ragworks activate {name} {target.id}",
        )  # fmt: skip
    live = generations.live_generation(connection, target.collection_id)
    if live is None or changes.any_change(connection, target.collection_id, live.id):
        raise Transient(
            f"generation {target.id} was replaced while this run worked on it", "another run went live", "Run again"
        )
    return True


def _outcome(connection: Connection, key: str, target: Generation, changed: bool) -> Outcome:
    run = runs.run_by_key(connection, target.collection_id, key)
    total = chunks.count_chunks(connection, target)
    quarantined = quarantine.count_open(connection, target.collection_id)[0]
    return Outcome(run.id, target.id, changed, total, run.embedded, run.reused, run.written, run.deleted, quarantined)

"""Step 1 of a run: list the source, read what changed, and write down what there is to do, why, and what it will cost."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from include.errors import BadData
from include.indexing.estimate import EXACT, SAMPLE, Estimate, describe_estimate, estimate
from include.indexing.listing import TO_READ, differences
from include.indexing.merge import remove
from include.indexing.read import ObjectReader
from include.indexing.signing import sign_missing
from include.indexing.spec import describe_difference, generation_spec, spec_hash
from include.indexing.target import choose_target
from include.privacy.scrub import open_scrubber
from include.quality.gates import check_deletions, check_rejections
from include.store import changes, chunks, collections, generations, objects, quarantine, runs, work_items

if TYPE_CHECKING:
    from include.indexing.context import IndexContext
    from include.store.generations import Generation
    from include.store.pool import Connection
    from include.store.runs import Run

logger = logging.getLogger(__name__)

ACTIONS = ("added", "changed", "metadata_only", "renamed", "deleted")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do.

    :param counts: documents by action, and unchanged.
    :param pending: documents whose chunks must be made.
    :param quarantined: open quarantine rows.
    :param estimate: what it will cost.
    :param reads: objects read, by why.
    :param note: why the run works on another generation than the settings ask for; else "".
    :param stopped: why a gate would stop the run; empty when none does.
    :param idle: the live generation is what the source and the settings ask for.
    """

    run: int
    generation: int
    counts: dict[str, int]
    pending: int
    quarantined: int
    estimate: Estimate
    reads: dict[str, int] = field(default_factory=dict)
    note: str = ""
    stopped: str = ""
    idle: bool = False


def plan_run(
    context: IndexContext, key: str, *, mode: str = "incremental", allow_deletes: bool = False, rebuild: bool = False
) -> Plan:
    """List, read and compare; in mode ``plan`` everything but the plan itself is rolled back.

    :param key: names the run; a retry with the same key continues it.
    :param rebuild: in mode ``plan``: what a rebuild would do.
    :raises BadData: a gate stops the run; nothing was removed or published.
    """
    started = time.monotonic()
    with context.pool.connection() as connection:
        collection = collections.ensure_collection(connection, context.collection.name)
        run = runs.start_run(connection, collection, key, mode=mode, allow_deletes=allow_deletes)
        connection.commit()
        collections.lock_collection_session(connection, collection)
        try:
            plan = _Planner(context, connection, collection, run, rebuild=rebuild).plan()
            if mode == "plan":
                connection.rollback()
            runs.add_seconds(connection, run.id, "plan", time.monotonic() - started)
            _keep(connection, run, plan)
        finally:
            connection.rollback()
            collections.unlock_collection_session(connection, collection)
    _log(context.collection.name, plan)
    if plan.stopped and mode != "plan":
        raise BadData(plan.stopped)
    return plan


class _Planner:
    """One plan of one run, on one connection that holds the collection."""

    def __init__(self, context: IndexContext, connection: Connection, collection: int, run: Run, *, rebuild: bool) -> None:
        self._context, self._connection, self._collection, self._run = context, connection, collection, run
        self._dry, self._rebuild = run.mode == "plan", rebuild or run.mode == "rebuild"
        self._kept_out = 0  # objects that the source lists and a person had forgotten

    def plan(self) -> Plan:
        reads = self._list()
        target, note = self._target()
        self._checkpoint()
        if reads or quarantine.orphaned_duplicates(self._connection, self._collection):
            ObjectReader(
                self._context, self._connection, self._collection, self._run, self._checkpoint, rebuild=self._rebuild
            ).read()
            reads = objects.count_by_kind(self._connection)  # with those that others made it read again
        if self._context.collection.near_duplicates.threshold is not None and not self._dry:
            sign_missing(self._connection, self._collection, self._context.progress, self._checkpoint)
        self._note_scrubbing()
        quarantine.resolve_outdated(self._connection, self._collection)
        quarantine.retry_due(self._connection, self._collection)
        return self._compare(target, reads, note)

    def _checkpoint(self) -> None:
        if not self._dry:
            self._connection.commit()

    def _list(self) -> dict[str, int]:
        """Compare the listing with what is known; returns the objects to read, counted by why."""
        self._context.progress.step("list", None)
        objects.begin_reading(self._connection)
        known = objects.known_objects(self._connection, self._collection)
        listing = differences(self._context.source.listing(), known, reread=self._rebuild)
        found = (difference for difference in listing if difference.kind != "unchanged")
        while batch := list(islice(found, objects.LISTED_BATCH)):
            listed = [(d.uri, d.fingerprint, d.size, d.kind) for d in batch if d.kind in TO_READ]
            self._kept_out += objects.add_to_read(self._connection, self._collection, listed)
            for kind, present in (("vanished", False), ("returned", True)):
                uris = [d.uri for d in batch if d.kind == kind]
                objects.mark_objects(self._connection, self._collection, uris, present=present)
        return objects.count_by_kind(self._connection)

    def _target(self) -> tuple[Generation, str]:
        """The generation that this run fills, made when there is none, and why it is not the one of the settings."""
        if self._rebuild:
            collections.hold_spec(self._connection, self._collection, None)  # a person asks for these settings
        spec = generation_spec(self._context.collection, self._context.embedder)
        wanted = spec_hash(spec)
        existing = generations.generations(self._connection, self._collection)
        held = collections.held_spec(self._connection, self._collection)
        if held not in (None, wanted):  # the settings changed since
            collections.hold_spec(self._connection, self._collection, None)
        choice = choose_target(
            existing, wanted, rebuild=self._rebuild, mine=self._run.generation_id,
            held=held,
            attended={g.id for g in existing if g.state == "building" and generations.attended(self._connection, g.id)},
        )  # fmt: skip
        if choice.generation is not None:
            for other in existing:  # an unfinished build for settings that were taken back would only mislead
                if other.state == "building" and other.spec_hash != wanted:
                    generations.drop_generation(self._connection, other)
            return choice.generation, choice.why
        made = generations.create_generation(
            self._connection, self._collection, spec=spec, spec_hash=wanted, embedder=self._context.embedder.fingerprint,
            dimension=self._context.embedder.dimension, storage=self._context.collection.embedding.storage,
            rebuild=self._rebuild,
        )  # fmt: skip
        return made, ""

    def _note_scrubbing(self) -> None:
        """Texts are stored without other personal data than before: what was built from the old ones must go."""
        scrubber = open_scrubber(self._context.collection.privacy)
        if collections.replace_scrub(self._connection, self._collection, scrubber.fingerprint if scrubber else ""):
            generations.flag_unscrubbed(self._connection, self._collection)
            for built in generations.generations(self._connection, self._collection):
                if built.state == "building":  # it may hold an earlier version in place of one that it refused
                    chunks.remove_outdated(self._connection, built)
            objects.mark_unread(self._connection, self._collection)  # else an earlier version with the raw text stays live

    def _compare(self, target: Generation, reads: dict[str, int], note: str) -> Plan:
        live = generations.live_generation(self._connection, self._collection)
        counts = self._write_entries(target, live)
        sizes = changes.sizes(self._connection, self._collection, target.id)
        touched = sum(counts.get(action, 0) for action in ACTIONS if action != "deleted")
        found, counting = quarantine.count_open(self._connection, self._collection, target.id)
        pending = work_items.enqueue_pending(self._connection, self._collection, target.id, self._run.id)
        expected = estimate(
            self._context, self._connection, target, run_id=self._run.id, live=live,
            rebuild=self._rebuild, characters=EXACT if self._dry else SAMPLE,
        )  # fmt: skip
        held = sizes.held if live is None or live.id == target.id else self._held(live)
        removed = changes.deletions(self._connection, self._collection, (live or target).id) if counts.get("deleted") else []
        stopped = self._stopped(removed, held, sizes.wanted, counting, sizes.awaiting_publication(target))
        unchanged = sizes.wanted - sizes.refused - touched
        listed = {action: counts.get(action, 0) for action in ACTIONS} | {"unchanged": unchanged}
        idle = target.state == "live" and not (
            pending
            or touched
            or counts.get("deleted")
            or counting
            or stopped
            or runs.ended_badly(self._connection, self._run)
            or generations.any_unscrubbed(self._connection, self._collection)
        )
        if idle:
            remove(self._connection, target)  # what was refused and never shown leaves without a publication
            found = quarantine.count_open(self._connection, self._collection, target.id)[0]
        return Plan(self._run.id, target.id, listed, pending, found, expected, reads, note, stopped, idle)

    def _held(self, generation: Generation) -> int:
        return changes.sizes(self._connection, self._collection, generation.id).held

    def _write_entries(self, target: Generation, live: Generation | None) -> dict[str, int]:
        """Write down why each document is in the run, through a connection whose work stays when a dry run is undone."""
        why = f"new generation: {describe_difference(live.spec, target.spec)}" if live else ""
        with self._context.pool.connection() as lasting:
            runs.clear_run_documents(lasting, self._run.id)
            entries = changes.explained(self._connection, self._collection, target, live, why)
            counts = runs.save_run_documents(lasting, self._run.id, entries)
            refused = ((r.uri, r.detail) for r in quarantine.rows_of_run(self._connection, self._run.id))
            runs.add_quarantined(lasting, self._run.id, refused)
        return counts

    def _stopped(self, removed: list[str], held: int, wanted: int, rejected: int, accepted: int) -> str:
        limits = self._context.collection.validation
        try:
            check_deletions(
                len(removed), max(held, len(removed)), wanted, limits, allow=self._run.allow_deletes, examples=removed
            )
            check_rejections(rejected, accepted, limits, name=self._context.collection.name, held=held)
            if not wanted and not held and not rejected and not self._forgotten():
                raise BadData(*_nothing_found(self._context))
        except BadData as error:
            return str(error)
        return ""

    def _forgotten(self) -> bool:
        """Whether the source holds no documents because they were forgotten: that is as a person wants it."""
        return bool(self._kept_out) or objects.any_without_document(self._connection, self._collection)


def _keep(connection: Connection, run: Run, plan: Plan) -> None:
    """Save the plan, and how the run stands."""
    generation = None if run.mode == "plan" else plan.generation
    counts: dict[str, Any] = {**plan.counts, "pending": plan.pending, "stopped": plan.stopped, "note": plan.note,
                              "quarantined": plan.quarantined}  # fmt: skip
    runs.save_plan(connection, run.id, generation, counts, estimate=plan.estimate.as_dict(), reads=plan.reads)
    if run.mode == "plan":
        runs.finish_run(connection, run.id, "planned")
    elif plan.stopped:
        runs.finish_run(connection, run.id, "failed", plan.stopped)
    connection.commit()


def _nothing_found(context: IndexContext) -> tuple[str, str, str]:
    why, fix = context.collection.source.nothing_found
    return f"collection {context.collection.name}: the source holds no documents", why, fix


def _log(name: str, plan: Plan) -> None:
    summary = ", ".join(f"{count} {action}" for action, count in plan.counts.items())
    logger.info("plan of %s: %s; %d in quarantine", name, summary, plan.quarantined)
    logger.info("%s", describe_estimate(plan.estimate.as_dict()))
    if plan.note:
        logger.warning("%s: %s", name, plan.note)

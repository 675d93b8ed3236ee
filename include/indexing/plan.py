"""Step 1 of a run: list the source, read what changed, and write down what there is to do and why."""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.errors import BadData
from include.indexing.listing import diff_listing
from include.indexing.read import ObjectReader
from include.indexing.spec import describe_difference, generation_spec, spec_hash
from include.quality.gates import check_deletions, check_rejections
from include.store import changes, collections, generations, objects, quarantine, runs, work_items

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.indexing.context import IndexContext
    from include.store.changes import Change
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
    :param stopped: why a gate would stop the run; empty when none does.
    """

    run: int
    generation: int
    counts: dict[str, int]
    pending: int
    quarantined: int
    stopped: str = ""


def plan_run(context: IndexContext, key: str, *, mode: str = "incremental", allow_deletes: bool = False) -> Plan:
    """List, read and compare; in mode ``plan`` everything but the plan itself is rolled back.

    :param key: names the run; a retry with the same key continues it.
    :raises BadData: a gate stops the run; nothing was removed or published.
    """
    started = time.monotonic()
    with context.pool.connection() as connection:
        collection = collections.ensure_collection(connection, context.collection.name)
        run = runs.start_run(connection, collection, key, mode=mode, allow_deletes=allow_deletes)
        connection.commit()
        collections.lock_collection_session(connection, collection)
        try:
            plan, entries = _Planner(context, connection, collection, run).plan()
            if mode == "plan":
                connection.rollback()
            runs.add_seconds(connection, run.id, "plan", time.monotonic() - started)
            _keep(connection, run, plan, entries)
        finally:
            connection.rollback()
            collections.unlock_collection_session(connection, collection)
    _log(context.collection.name, plan)
    if plan.stopped and mode != "plan":
        raise BadData(plan.stopped)
    return plan


class _Planner:
    """One plan of one run, on one connection that holds the collection."""

    def __init__(self, context: IndexContext, connection: Connection, collection: int, run: Run) -> None:
        self._context, self._connection, self._collection, self._run = context, connection, collection, run
        self._dry = run.mode == "plan"

    def plan(self) -> tuple[Plan, list[tuple[str, str, str]]]:
        self._context.progress.step("list", None)
        known = objects.known_objects(self._connection, self._collection)
        diff = diff_listing(self._context.source.listing(), known, reread=self._run.mode == "rebuild")
        target = self._target()
        objects.mark_objects(self._connection, self._collection, diff.vanished, present=False)
        objects.mark_objects(self._connection, self._collection, diff.returned, present=True)
        objects.announce_objects(self._connection, self._collection, [o.uri for o in diff.read])
        self._checkpoint()
        if diff.read:
            ObjectReader(self._context, self._connection, self._collection, self._run.id, self._checkpoint).read(diff.read)
        quarantine.resolve_vanished(self._connection, self._collection)
        quarantine.resolve_outdated(self._connection, self._collection)
        return self._compare(target)

    def _checkpoint(self) -> None:
        if not self._dry:
            self._connection.commit()

    def _target(self) -> Generation:
        """The generation that this run fills: the live one when its spec is the collection's, else one being built."""
        spec = generation_spec(self._context.collection, self._context.embedder)
        wanted = spec_hash(spec)
        existing = generations.generations(self._connection, self._collection)
        for generation in existing:
            same = generation.id == self._run.generation_id and generation.spec_hash == wanted
            if same and generation.state in ("building", "live"):
                return generation  # a retry of this run goes on with the generation it began
        rebuild = self._run.mode == "rebuild"
        for state in ("building",) if rebuild else ("live", "building"):
            for generation in existing:
                usable = generation.metrics.get("rebuild") or not rebuild  # a rebuild goes on with a rebuild only
                if generation.state == state and generation.spec_hash == wanted and usable:
                    self._drop_abandoned(existing, wanted)
                    return generation
        return generations.create_generation(
            self._connection, self._collection, spec=spec, spec_hash=wanted, embedder=self._context.embedder.fingerprint,
            dimension=self._context.embedder.dimension, storage=self._context.collection.embedding.storage,
            rebuild=rebuild,
        )  # fmt: skip

    def _drop_abandoned(self, existing: Sequence[Generation], wanted: str) -> None:
        """An unfinished build for settings that were taken back: its rows and refusals would only mislead."""
        for generation in existing:
            if generation.state == "building" and generation.spec_hash != wanted:
                generations.drop_generation(self._connection, generation)

    def _compare(self, target: Generation) -> tuple[Plan, list[tuple[str, str, str]]]:
        entries = self._entries(target)
        sizes = changes.sizes(self._connection, self._collection, target.id)
        counts = Counter(action for _, action, _ in entries)
        touched = sum(counts[action] for action in ACTIONS if action != "deleted")
        found, counting = quarantine.count_open(self._connection, self._collection, target.id)
        pending = work_items.enqueue_pending(self._connection, self._collection, target.id, self._run.id)
        stopped = self._stopped(target, entries, sizes.wanted, counting, sizes.awaiting_publication(target))
        entries += [(r.uri, "quarantined", r.detail) for r in quarantine.rows_of_run(self._connection, self._run.id)]
        listed = {action: counts[action] for action in ACTIONS} | {"unchanged": sizes.wanted - touched}
        return Plan(self._run.id, target.id, listed, pending, found, stopped), entries

    def _entries(self, target: Generation) -> list[tuple[str, str, str]]:
        found = changes.changes(self._connection, self._collection, target.id)
        live = generations.live_generation(self._connection, self._collection)
        if live is None or live.id == target.id:
            return [(c.uri, c.action, _reason(c)) for c in found]
        # A new generation lacks everything: say what is new in the source, and why the rest is made again.
        why = f"new generation: {describe_difference(live.spec, target.spec)}"
        against_live = {c.uri: c for c in changes.changes(self._connection, self._collection, live.id)}
        entries = [_explain(against_live.get(c.uri), c, why) for c in found if c.action != "deleted"]
        return entries + [(c.uri, c.action, _reason(c)) for c in against_live.values() if c.action == "deleted"]

    def _stopped(
        self, target: Generation, entries: Sequence[tuple[str, str, str]], wanted: int, rejected: int, accepted: int
    ) -> str:
        limits = self._context.collection.validation
        removed = [uri for uri, action, _ in entries if action == "deleted"]
        live = generations.live_generation(self._connection, self._collection)
        held = changes.sizes(self._connection, self._collection, (live or target).id).held
        try:
            check_deletions(
                len(removed), max(held, len(removed)), wanted, limits, allow=self._run.allow_deletes, examples=removed
            )
            check_rejections(rejected, accepted, limits)
            if not wanted and not held and not rejected:
                raise BadData(*_nothing_found(self._context))
        except BadData as error:
            return str(error)
        return ""


def _keep(connection: Connection, run: Run, plan: Plan, entries: list[tuple[str, str, str]]) -> None:
    """Save the plan and its entries, and how the run stands."""
    runs.clear_run_documents(connection, run.id)
    runs.save_run_documents(connection, run.id, _one_entry_each(entries))
    generation = None if run.mode == "plan" else plan.generation
    runs.save_plan(connection, run.id, generation, {**plan.counts, "pending": plan.pending, "stopped": plan.stopped})
    if run.mode == "plan":
        runs.finish_run(connection, run.id, "planned")
    elif plan.stopped:
        runs.finish_run(connection, run.id, "failed", plan.stopped)
    connection.commit()


def _one_entry_each(entries: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """One entry a uri: a document may be changed by one row and have another in quarantine."""
    merged: dict[str, tuple[str, str, str]] = {}
    for uri, action, reason in entries:
        if uri in merged:
            _, first_action, first_reason = merged[uri]
            merged[uri] = (uri, first_action, f"{first_reason}; {action}: {reason}")
        else:
            merged[uri] = (uri, action, reason)
    return sorted(merged.values())


def _explain(source_change: Change | None, change: Change, why: str) -> tuple[str, str, str]:
    if source_change is None:
        return change.uri, "changed", why
    return change.uri, source_change.action, f"{_reason(source_change)}; {why}"


def _reason(change: Change) -> str:
    return {
        "added": "new in the source",
        "changed": "its content changed",
        "metadata_only": "its metadata or access list changed, its content did not",
        "renamed": f"moved from {change.old_uri}",
        "deleted": "no longer in the source",
    }[change.action]


def _nothing_found(context: IndexContext) -> tuple[str, str, str]:
    source = context.collection.source
    return (
        f"collection {context.collection.name}: the source holds no documents",
        f"nothing at {source.path} matches {source.glob!r}",
        "Check source.path and source.glob; .md .txt .rst .html .pdf .docx are read",
    )


def _log(name: str, plan: Plan) -> None:
    summary = ", ".join(f"{count} {action}" for action, count in plan.counts.items())
    logger.info("plan of %s: %s; %d to embed, %d in quarantine", name, summary, plan.pending, plan.quarantined)

"""The points at which a run is killed, each with the scenario it belongs to: a readable table."""

from __future__ import annotations

from dataclasses import dataclass

from tests.promises.faults import Fault


@dataclass(frozen=True)
class Scenario:
    """What a run does when it is killed.

    :param kind: ``files`` or ``rows`` (jsonl).
    :param live: whether the old state of the source is live before.
    :param tokens: ``chunking.max_tokens`` from this run on; it was 60.
    :param mode: of the run, and of its repetition.
    """

    kind: str
    live: bool = True
    tokens: int = 60
    mode: str = "incremental"


SCENARIOS = {
    "step": Scenario("files"),
    "rows": Scenario("rows"),
    "resize": Scenario("files", tokens=40),  # a changed chunk size: a new generation while the live one keeps in step
    "first": Scenario("files", live=False),
    "rebuild": Scenario("rows", mode="rebuild"),
}

_PLAN, _READ, _WORKER = "include.indexing.plan", "include.indexing.read", "include.indexing.worker"
_PUBLISH, _SERVING = "include.indexing.publish", "include.indexing.serving"
_STORE = "include.store"

_TABLE: list[tuple[str, str, str, int]] = [
    # scenario, when, where, nth
    # -- listing
    ("step", "before", "include.sources.files:FilesSource.listing", 1),
    ("step", "midway", "include.sources.files:FilesSource.listing", 9),
    ("rows", "midway", f"{_STORE}.objects:known_objects", 2),
    ("step", "after", f"{_STORE}.objects:add_to_read", 1),
    ("step", "after", f"{_STORE}.objects:mark_objects", 2),
    ("first", "before", f"{_STORE}.generations:create_generation", 1),
    ("resize", "after", f"{_STORE}.generations:create_generation", 1),
    ("rebuild", "after", "sql:create table", 1),
    # -- parsing
    ("step", "before", f"{_STORE}.objects:announce", 1),
    ("step", "after", f"{_STORE}.objects:announce", 1),
    ("rows", "after", f"{_STORE}.objects:begin", 1),
    ("step", "before", "include.sources.files:FilesSource.read", 3),
    ("step", "after", "include.sources.files:parse", 5),
    ("rows", "midway", "include.sources.jsonl:JsonlSource.read", 4),
    ("first", "after", "include.sources.files:parse", 12),
    # -- validating documents, and writing what the source wants
    ("step", "before", f"{_READ}:validate", 1),
    ("rows", "after", f"{_READ}:validate", 2),
    ("step", "after", f"{_STORE}.quarantine:save_refusals", 1),
    ("rows", "after", f"{_STORE}.documents:_save_texts", 1),
    ("step", "after", f"{_STORE}.documents:save_documents", 1),
    ("first", "after", f"{_STORE}.documents:save_documents", 3),
    ("rows", "after", f"{_STORE}.reports:save_report", 1),
    ("rows", "before", f"{_STORE}.objects:mark_unseen", 2),
    ("rows", "after", f"{_STORE}.objects:mark_unseen", 2),
    ("step", "after", f"{_STORE}.objects:save_objects", 1),
    ("rows", "after", f"{_STORE}.quarantine:resolve_objects", 1),
    ("step", "before", f"{_READ}:ObjectReader._flush", 2),  # the first batch is committed, the second is not
    ("rows", "after", f"{_READ}:ObjectReader._affected", 1),
    ("rows", "after", f"{_STORE}.quarantine:resolve_vanished", 1),
    # -- the plan
    ("step", "midway", f"{_STORE}.changes:explained", 3),
    ("step", "after", f"{_STORE}.runs:save_run_documents", 1),
    ("rows", "after", f"{_STORE}.runs:add_quarantined", 1),
    ("step", "before", f"{_STORE}.work_items:enqueue_pending", 1),
    ("step", "after", f"{_STORE}.work_items:enqueue_pending", 1),
    ("resize", "after", f"{_STORE}.runs:save_plan", 1),
    ("rows", "before", f"{_STORE}.collections:unlock_collection_session", 1),
    # -- embedding
    ("step", "before", f"{_STORE}.work_items:claim", 1),
    ("step", "after", f"{_STORE}.work_items:claim", 1),
    ("rows", "after", f"{_STORE}.documents:texts", 1),
    ("step", "midway", "include.indexing.cutter:chunk_documents", 4),
    ("step", "after", f"{_STORE}.chunks:known_embeddings", 1),
    ("first", "after", f"{_STORE}.generations:save_canary", 1),
    ("step", "before", "tests.promises.faults:QuickEmbedder.portion", 3),
    ("first", "after", "tests.promises.faults:QuickEmbedder.portion", 5),
    ("step", "after", f"{_WORKER}:validate_chunks", 1),
    # -- writing chunks
    ("step", "before", f"{_STORE}.chunks:HalfVector", 5),  # in the middle of the COPY
    ("resize", "before", f"{_STORE}.chunks:HalfVector", 40),
    ("step", "after", "sql:insert into ragworks.generation_document", 1),
    ("step", "after", f"{_STORE}.chunks:write_documents", 1),
    ("first", "after", f"{_STORE}.documents:reject_content", 1),
    ("step", "before", f"{_STORE}.work_items:complete", 1),
    ("step", "after", f"{_STORE}.work_items:complete", 1),
    ("rows", "after", f"{_STORE}.runs:add_counts", 1),
    ("step", "before", f"{_STORE}.work_items:claim", 2),  # the first batch is committed
    ("resize", "before", f"{_STORE}.work_items:claim", 4),
    ("rebuild", "before", f"{_STORE}.work_items:claim", 4),
    ("rebuild", "after", f"{_STORE}.chunks:write_documents", 2),
    # -- the live generation is kept in step while a new one is built
    ("resize", "before", f"{_SERVING}:publish_changes", 1),
    ("resize", "after", f"{_SERVING}:publish_changes", 1),
    ("resize", "after", "include.indexing.embed:keep_serving", 1),
    # -- judging, and the vector index
    ("step", "before", f"{_PUBLISH}:check", 1),
    ("first", "after", f"{_PUBLISH}:check", 1),
    ("resize", "before", f"{_STORE}.generations:build_index", 1),
    ("resize", "sent", 'sql:create index "chunks_', 1),  # while the server builds
    ("first", "after", f"{_STORE}.generations:build_index", 1),
    ("resize", "after", f"{_STORE}.generations:analyze", 1),
    ("resize", "after", f"{_PUBLISH}:compare_generations", 1),
    ("rebuild", "after", f"{_STORE}.generations:save_gate", 1),
    # -- publishing
    ("step", "after", "sql:with stale as", 1),
    ("step", "after", "sql:create temp table pair", 1),
    ("step", "after", 'sql:delete from "ragworks"."spans_', 1),
    ("step", "after", 'sql:delete from "ragworks"."chunks_', 1),
    ("step", "after", 'sql:update "ragworks"."spans_', 1),
    ("step", "after", 'sql:insert into "ragworks"."spans_', 1),
    ("step", "after", 'sql:insert into "ragworks"."chunks_', 1),
    ("step", "after", "sql:truncate", 1),
    ("step", "after", f"{_STORE}.chunk_merge:merge_staged", 1),
    ("step", "after", f"{_STORE}.chunks:remove_unwanted", 1),
    ("rows", "after", f"{_STORE}.chunks:refresh_metadata", 1),
    ("resize", "after", "sql:update ragworks.generation set state = 'retired'", 1),
    ("resize", "after", f"{_STORE}.generations:make_live", 1),
    ("rebuild", "after", f"{_STORE}.generations:make_live", 1),
    ("rebuild", "after", f"{_STORE}.generations:drop_old", 1),
    ("rows", "after", f"{_STORE}.documents:collect_garbage", 1),
    ("step", "before", f"{_STORE}.runs:finish_run", 1),
    ("step", "after", f"{_STORE}.runs:finish_run", 1),
    ("step", "before", f"{_STORE}.generations:analyze", 1),  # published, and not told so
    ("step", "after", "include.indexing.pipeline:publish_run", 1),
]

POINTS = [(scenario, Fault(at, target, nth)) for scenario, at, target, nth in _TABLE]

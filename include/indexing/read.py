"""Reads changed objects into the document tables: parse, validate, accept or quarantine, batch by batch."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

from include.indexing.hashing import text_hash, version_hash
from include.quality.suites import CONTROL_CHARACTERS, document_rules
from include.quality.validate import validate
from include.sources.source import SourceObject
from include.store import documents, objects, quarantine, reports, runs
from include.store.documents import DocumentRow
from include.store.quarantine import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from include.indexing.context import IndexContext
    from include.sources.source import Document
    from include.store.pool import Connection

logger = logging.getLogger(__name__)

BATCH_DOCUMENTS, BATCH_CHARACTERS = 1000, 16_000_000  # what is held in memory at a time
_CONTROL = re.compile(CONTROL_CHARACTERS)


class ObjectReader:
    """Streams objects through validation into the store; an object's fingerprint is saved with its last document.

    :param checkpoint: called after each batch, to commit it (a dry run passes a no-op).
    """

    def __init__(
        self, context: IndexContext, connection: Connection, collection: int, run: int, checkpoint: Callable[[], object]
    ) -> None:
        self._context, self._connection, self._collection, self._run = context, connection, collection, run
        self._checkpoint = checkpoint
        self._since = runs.database_time(connection)
        self._buffer: list[Document] = []
        self._characters = 0
        self._finished: list[SourceObject] = []
        self._seen: dict[str, list[str]] = {}  # uris shown by objects with several documents
        self._incomplete: set[str] = set()  # objects of which not every row could be told by its id
        self._changed: set[str] = set()
        self._several = False
        self._displaced: set[str] = set()  # unchanged objects that lost a uri to one that comes before
        self._claimed: dict[int, str] = {}  # hash of uri → the object that showed it in this run

    def read(self, changed: Sequence[SourceObject]) -> None:
        """Read these objects, and those whose refused duplicates they may set free or displace."""
        self._several = objects.count_present(self._connection, self._collection) > 1
        while changed:
            self._changed |= {obj.uri for obj in changed}
            self._read(changed)
            changed = self._affected()

    def _read(self, changed: Sequence[SourceObject]) -> None:
        self._context.progress.step("read", len(changed))
        for obj in changed:
            for document in self._context.source.read(obj):
                self._buffer.append(document)
                self._characters += len(document.text)
                if len(self._buffer) >= BATCH_DOCUMENTS or self._characters >= BATCH_CHARACTERS:
                    self._flush()
            self._finished.append(obj)
            self._context.progress.advance(1)
        self._flush()

    def _flush(self) -> None:
        batch, self._buffer, self._characters = self._buffer, [], 0
        if batch:
            self._store(batch)
        self._finish_objects()
        self._checkpoint()

    def _store(self, batch: list[Document]) -> None:
        held_elsewhere = self._held_elsewhere(batch)
        columns, names = _columns(batch, held_elsewhere, self._context.collection.validation.required_metadata)
        rules = document_rules(self._context.collection.validation)
        verdict = validate("documents", rules, columns, names)
        refused = {i: batch[i] for i in verdict.failures}
        quarantine.save_refusals(
            self._connection, self._collection, self._run,
            [
                Refusal(d.object_uri, d.uri, d.locator, "document", verdict.failures[i].rule, verdict.failures[i].detail)
                for i, d in refused.items()
            ],
        )  # fmt: skip
        documents.save_documents(self._connection, self._collection, [_row(d) for i, d in enumerate(batch) if i not in refused])
        reports.save_report(
            self._connection, self._run, "documents",
            success=not refused, evaluated=len(batch), rejected=len(refused), result=verdict.result,
        )  # fmt: skip
        for document in batch:
            self._seen.setdefault(document.object_uri, []).append(document.uri)
            if document.problem and (document.uri == document.object_uri or document.uri.startswith(f"{document.object_uri}#")):
                self._incomplete.add(document.object_uri)
        if refused:
            logger.warning("quarantined %d of %d documents: see the quarantine of the collection", len(refused), len(batch))

    def _finish_objects(self) -> None:
        """Objects whose every document is in: note what they no longer show, then their fingerprint."""
        finished, self._finished = self._finished, []
        for obj in finished:
            seen = self._seen.pop(obj.uri, [])
            if obj.uri in self._incomplete:
                # A row that cannot be told by its id, or the unread rest, may be any of the missing ones: keep them all.
                logger.warning("%s has unreadable rows: documents missing from it are kept", obj.uri)
                continue
            documents.mark_vanished(self._connection, self._collection, obj.uri, seen)
        objects.save_objects(self._connection, self._collection, [(o.uri, o.fingerprint) for o in finished])
        quarantine.resolve_objects(self._connection, self._collection, self._since, [o.uri for o in finished])

    def _held_elsewhere(self, batch: list[Document]) -> dict[str, str]:
        """uri → another object that holds it and comes before: of two rows with one id the first object's counts.

        What a changed object held before this run does not count: a row may move from file to file. An unchanged object
        that comes later gives way, and is read again so that its row is refused.
        """
        shared = [d for d in batch if d.uri != d.object_uri]
        owners = documents.owners(self._connection, self._collection, [d.uri for d in shared])
        held: dict[str, str] = {}
        for document in shared:
            owner = owners.get(document.uri, document.object_uri)
            if owner not in self._changed and owner != document.object_uri:
                if owner < document.object_uri:
                    held[document.uri] = owner
                else:
                    self._displaced.add(owner)
            if self._several:
                first = self._claimed.setdefault(hash(document.uri), document.object_uri)
                if first != document.object_uri:
                    held[document.uri] = first
        return held

    def _affected(self) -> list[SourceObject]:
        """Unchanged objects that must be read again because of what this run read elsewhere."""
        quarantine.resolve_vanished(self._connection, self._collection)
        waiting = {*self._displaced, *quarantine.orphaned_duplicates(self._connection, self._collection)} - self._changed
        self._displaced.clear()
        known = objects.fingerprints(self._connection, self._collection, sorted(waiting))
        return [SourceObject(uri, fingerprint, 0) for uri, fingerprint in sorted(known.items()) if fingerprint]


def _columns(
    batch: Sequence[Document], held_elsewhere: dict[str, str], required: Sequence[str]
) -> tuple[dict[str, list[Any]], list[str]]:
    """The columns of :func:`include.quality.suites.document_rules`, and the rows' names."""
    duplicates = [_duplicate(d, held_elsewhere) for d in batch]
    columns: dict[str, list[Any]] = {
        "uri": [d.uri for d in batch],
        "duplicate_of": duplicates,
        "problem": [d.problem or None for d in batch],
        "visible_characters": [1 if d.problem else len(d.text.strip()) for d in batch],
        "size": [d.size for d in batch],
        "control_characters": [len(_CONTROL.findall(d.text)) for d in batch],
        "missing_metadata": [", ".join(k for k in required if d.metadata.get(k) in (None, "")) or None for d in batch],
    }
    return columns, [f"{d.uri} {d.locator}".strip() for d in batch]


def _duplicate(document: Document, held_elsewhere: dict[str, str]) -> str | None:
    """Where else this uri was seen, or None."""
    if held_elsewhere.get(document.uri, document.object_uri) != document.object_uri:
        return f"duplicate id: {held_elsewhere[document.uri]} holds it too; make the ids unique"
    return document.problem if document.problem.startswith("duplicate id") else None


def _row(document: Document) -> DocumentRow:
    content = text_hash(document.text)
    version = version_hash(content, document.metadata, document.acl)
    return DocumentRow(document.uri, document.object_uri, document.text, content, version, document.metadata, document.acl)

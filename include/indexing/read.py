"""Reads changed objects into the document tables: parse, validate, accept or quarantine, batch by batch."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg

from include.hashing import text_hash, version_hash
from include.indexing.near_duplicates import signature
from include.quality.suites import CONTROL_CHARACTERS, document_rules
from include.quality.validate import validate
from include.sources.source import SourceObject, unreadable
from include.store import documents, kept_out, objects, quarantine, reports, runs
from include.store.documents import DocumentRow
from include.store.quarantine import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from include.indexing.context import IndexContext
    from include.sources.source import Document
    from include.store.objects import ToRead
    from include.store.pool import Connection
    from include.store.runs import Run

logger = logging.getLogger(__name__)

BATCH_DOCUMENTS, BATCH_CHARACTERS = 1000, 16_000_000  # what is held in memory at a time
ANALYZED_FROM = 1000  # documents stored by a run: statistics for the planner are refreshed then,
ANALYZED_GROWTH = 8  # whenever they became so many times more, and before the plan
SUSPECT_ATTEMPTS, MAX_ATTEMPTS = 2, 5  # readings that never ended: after so many it is read alone, or not at all
_CONTROL = re.compile(CONTROL_CHARACTERS)


class ObjectReader:
    """Streams the objects of :func:`include.store.objects.add_to_read` through validation into the store.

    An object's fingerprint is saved with its last document. An object whose reading ends its process (a parser that takes
    all memory) is read alone the next times, and refused after MAX_ATTEMPTS of them.

    :param checkpoint: called after each batch, to commit it (a dry run passes a no-op).
    :param rebuild: also what is stored just so already is validated anew.
    """

    def __init__(
        self, context: IndexContext, connection: Connection, collection: int, run: Run, checkpoint: Callable[[], object],
        *, rebuild: bool,
    ) -> None:  # fmt: skip
        self._context, self._connection, self._collection, self._run = context, connection, collection, run.id
        self._rebuild = rebuild
        self._checkpoint = checkpoint
        self._sign = signature if context.collection.near_duplicates.threshold is not None else None
        self._since = runs.database_time(connection)
        self._buffer: list[Document] = []
        self._characters = 0
        self._finished: list[ToRead] = []
        self._incomplete: set[str] = set()  # objects of which not every row could be told by its id
        self._stored = 0
        self._next_analysis = ANALYZED_FROM
        self._displaced: set[str] = set()  # unchanged objects that lost a uri to one that comes before

    def read(self) -> None:
        """Read what waits, and those objects whose refused duplicates are set free or displaced by it."""
        last = 0
        while True:
            objects.announce(self._connection, self._collection, last)
            self._context.progress.step("read", objects.count_to_read(self._connection, last))
            self._checkpoint()
            last = self._read_after(last)
            if not self._affected():
                break
        if self._stored >= ANALYZED_FROM:
            documents.analyze(self._connection)
            self._checkpoint()

    def _read_after(self, last: int) -> int:
        while page := objects.next_to_read(self._connection, self._collection, last, BATCH_DOCUMENTS):
            for group in _groups(page):
                self._read_group(group)
            last = page[-1].number
        return last

    def _read_group(self, group: Sequence[ToRead]) -> None:
        uris = [obj.uri for obj in group]
        objects.begin(self._connection, self._collection, uris)
        self._checkpoint()
        try:
            self._read_objects({obj.uri: obj for obj in group})
        except MemoryError:
            raise  # as if the kernel had killed it: counted against what it read
        except Exception:
            with suppress(psycopg.Error):  # an error in order is not what MAX_ATTEMPTS is about
                self._connection.rollback()
                objects.release(self._connection, self._collection, uris)
                self._checkpoint()
            raise
        self._flush()

    def _read_objects(self, group: Mapping[str, ToRead]) -> None:
        readable = [SourceObject(o.uri, o.fingerprint, o.size) for o in group.values() if o.attempts < MAX_ATTEMPTS]
        for obj in group.values():
            if obj.attempts >= MAX_ATTEMPTS:
                self._buffer.append(_poisonous(obj))
                self._finished.append(obj)
        for source_object, found in self._context.source.read_many(readable):
            for document in found:
                self._buffer.append(document)
                self._characters += len(document.text)
                if len(self._buffer) >= BATCH_DOCUMENTS or self._characters >= BATCH_CHARACTERS:
                    self._flush()
            self._finished.append(group[source_object.uri])
            self._context.progress.advance(1)

    def _flush(self) -> None:
        batch, self._buffer, self._characters = self._buffer, [], 0
        forgotten_uris = kept_out.is_forgotten(self._connection, self._collection, [d.uri for d in batch])
        batch = [d for d in batch if d.uri not in forgotten_uris]
        if batch:
            self._store(batch)
        self._finish_objects()
        if self._stored >= self._next_analysis:
            documents.analyze(self._connection)
            self._next_analysis = self._stored * ANALYZED_GROWTH
        self._checkpoint()

    def _store(self, batch: list[Document]) -> None:
        held_elsewhere = self._held_elsewhere(batch)
        rows = [None if d.problem else _row(d) for d in batch]
        own = [row for row in rows if row and held_elsewhere.get(row.uri, row.object_uri) == row.object_uri]
        # What is stored just so was validated then. A rebuild asks for it anew.
        known = set() if self._rebuild else documents.unchanged(self._connection, self._collection, own)
        pending = [(d, r) for d, r in zip(batch, rows, strict=True) if r is None or (d.uri, d.object_uri) not in known]
        self._validate(pending, held_elsewhere)
        runs.add_scrubbed(self._connection, self._run, sum((Counter(d.scrubbed) for d in batch), Counter()))
        for document in batch:
            if document.problem and (document.uri == document.object_uri or document.uri.startswith(f"{document.object_uri}#")):
                self._incomplete.add(document.object_uri)

    def _validate(self, pending: Sequence[tuple[Document, DocumentRow | None]], held_elsewhere: dict[str, str]) -> None:
        """Store what passes and quarantine the rest."""
        if not pending:
            return
        batch = [document for document, _ in pending]
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
        accepted = [row or _row(d) for i, (d, row) in enumerate(pending) if i not in refused]
        documents.save_documents(self._connection, self._collection, accepted, sign=self._sign)
        self._stored += len(accepted)
        if self._displaced:  # noted with the documents that displace them: this process may end before it reads them
            objects.add_again(self._connection, self._collection, sorted(self._displaced))
            objects.forget_fingerprints(self._connection, self._collection, sorted(self._displaced))
            self._displaced.clear()
        reports.save_report(
            self._connection, self._run, "documents",
            success=not refused, evaluated=len(batch), rejected=len(refused), result=verdict.result,
        )  # fmt: skip
        if refused:
            logger.warning("quarantined %d of %d documents: see the quarantine of the collection", len(refused), len(batch))

    def _finish_objects(self) -> None:
        """Objects whose every document is in: note what they no longer show, then their fingerprint."""
        finished, self._finished = self._finished, []
        if not finished:
            return
        for obj in finished:
            if obj.uri in self._incomplete:
                # A row that cannot be told by its id, or the unread rest, may be any of the missing ones: keep them all.
                logger.warning("%s has unreadable rows: documents missing from it are kept", obj.uri)
        complete = [obj.uri for obj in finished if obj.uri not in self._incomplete]
        objects.mark_unseen(self._connection, self._collection, complete)
        poisonous = [obj for obj in finished if obj.attempts >= MAX_ATTEMPTS]
        objects.save_objects(self._connection, self._collection, [o for o in finished if o.attempts < MAX_ATTEMPTS])
        objects.save_objects(self._connection, self._collection, poisonous, attempts=MAX_ATTEMPTS - 1)  # one try at the next
        quarantine.resolve_objects(self._connection, self._collection, self._since, [o.uri for o in finished])

    def _held_elsewhere(self, batch: list[Document]) -> dict[str, str]:
        """uri → another object that holds it and comes before: of two rows with one id the first object's counts.

        What a changed object held before this run does not count: a row may move from file to file. An unchanged object
        that comes later gives way, and is read again so that its row is refused.
        """
        first = objects.show_documents(self._connection, [(d.uri, d.object_uri) for d in batch])
        shared = [d for d in batch if d.uri != d.object_uri]
        owners = documents.owners(self._connection, self._collection, [d.uri for d in shared])
        changing = objects.is_to_be_read(self._connection, sorted(set(owners.values())))
        held: dict[str, str] = {}
        for document in shared:
            owner = owners.get(document.uri, document.object_uri)
            if owner not in changing and owner != document.object_uri:
                if owner < document.object_uri:
                    held[document.uri] = owner
                else:
                    self._displaced.add(owner)
            if first[document.uri] != document.object_uri:
                held[document.uri] = first[document.uri]
        return held

    def _affected(self) -> int:
        """Have unchanged objects read again because of what this run read elsewhere; returns how many."""
        waiting = quarantine.orphaned_duplicates(self._connection, self._collection)
        return objects.add_again(self._connection, self._collection, sorted(waiting))


def _groups(page: Sequence[ToRead]) -> Iterator[list[ToRead]]:
    """In order: together what gave no trouble, alone what may have ended a process."""
    group: list[ToRead] = []
    for obj in page:
        if obj.attempts >= SUSPECT_ATTEMPTS:
            if group:
                yield group
            yield [obj]
            group = []
        else:
            group.append(obj)
    if group:
        yield group


def _poisonous(obj: ToRead) -> Document:
    problem = f"reading it ended the process {obj.attempts} times (out of memory?); repair or split the file, or exclude it"
    return unreadable(obj.uri, obj.uri, problem, size=obj.size)


def _columns(
    batch: Sequence[Document], held_elsewhere: dict[str, str], required: Sequence[str]
) -> tuple[dict[str, list[Any]], list[str]]:
    """The columns of :func:`include.quality.suites.document_rules`, and the rows' names."""
    duplicates = [_duplicate(d, held_elsewhere) for d in batch]
    columns: dict[str, list[Any]] = {
        "uri": [d.uri for d in batch],
        "duplicate_of": duplicates,
        "problem": [d.problem or None for d in batch],
        "visible_characters": [int(bool(d.problem) or _shows(d.text)) for d in batch],
        "size": [d.size for d in batch],
        "control_characters": [len(_CONTROL.findall(d.text)) for d in batch],
        "missing_metadata": [", ".join(k for k in required if d.metadata.get(k) in (None, "")) or None for d in batch],
    }
    return columns, [f"{d.uri} {d.locator}".strip() for d in batch]


def _shows(text: str) -> bool:
    """Whether anything of it is visible: a zero-width space is neither a space to Python nor a token to a model."""
    return any(not c.isspace() and unicodedata.category(c) not in ("Cf", "Cc") for c in text)


def _duplicate(document: Document, held_elsewhere: dict[str, str]) -> str | None:
    """Where else this uri was seen, or None."""
    if held_elsewhere.get(document.uri, document.object_uri) != document.object_uri:
        return f"duplicate id: {held_elsewhere[document.uri]} holds it too; make the ids unique"
    return document.problem if document.problem.startswith("duplicate id") else None


def _row(document: Document) -> DocumentRow:
    content = text_hash(document.text)
    version = version_hash(content, document.metadata, document.acl)
    return DocumentRow(document.uri, document.object_uri, document.text, content, version, document.metadata, document.acl)

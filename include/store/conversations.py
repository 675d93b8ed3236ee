"""Conversations that a language model is trained on, and answers with a worse one beside them: rows of a dataset.

A dataset of them is a version like any other (:mod:`include.store.datasets`): known by the hash of its rows, never changed,
except by ``forget``.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from psycopg.types.json import Jsonb

from include.hashing import canonical_json
from include.store import datasets, kept_out
from include.store.naming import uri_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from include.store.datasets import Dataset, Split
    from include.store.pool import Connection

# Of a row's metadata: what was asked, where the last user message holds passages too; and where these passages stand.
QUESTION, PASSAGES = "question", "passages"

Kind = Literal["conversations", "preferences"]


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation.

    :param messages: role (system, user, assistant) and content; the last is the assistant's, the answer to be learned.
    :param rejected: a worse answer to the same messages; None: there is none.
    :param task: feedback, grounded, unanswerable, imported, exact, or a word of whoever made the file.
    :param expected: what an exact answer must say; None: there is no such thing.
    :param uri: of the document that answers; None: not known.
    :param origin: where it comes from, as of pairs: qrels, feedback, llm, headings or imported.
    :param metadata: ``question`` where the last user message holds more than that, ``id`` of an imported line.
    :param documents: all whose text stands in it.
    """

    messages: tuple[dict[str, str], ...]
    rejected: str | None = None
    split: Split = "train"
    task: str = "imported"
    expected: str | None = None
    uri: str | None = None
    origin: str = "imported"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    documents: tuple[str, ...] = ()

    @property
    def prompt(self) -> list[dict[str, str]]:
        """All messages before the answer."""
        return list(self.messages[:-1])

    @property
    def answer(self) -> str:
        """The answer to be learned."""
        return self.messages[-1]["content"]

    @property
    def question(self) -> str:
        """What was asked last, without the passages."""
        asked = self.metadata.get(QUESTION)
        if isinstance(asked, str):
            return asked
        return next((one["content"] for one in reversed(self.messages) if one["role"] == "user"), "")

    @property
    def named(self) -> tuple[str, ...]:
        """Every document it names, the one that answers among them."""
        return tuple(dict.fromkeys((*((self.uri,) if self.uri else ()), *self.documents)))


def save_conversations(
    connection: Connection,
    collection: int,
    name: str,
    rows: Iterable[Conversation],
    *,
    kind: Kind,
    arguments: Mapping[str, Any],
    statistics: Mapping[str, Any],
    parent: int | None = None,
    origin: str | None = None,
) -> Dataset:
    """The version that holds these rows: made, or the one that is there; as :func:`include.store.datasets.save`.

    :raises BadData: there are no rows, or the name is one of datasets of another kind.
    """
    return datasets.save_rows(
        connection, collection, name, rows, writer=_Writer, kind=kind, arguments=arguments, statistics=statistics,
        parent=parent, origin=origin,
    )  # fmt: skip


def conversations(connection: Connection, dataset_id: int, split: str | None = None) -> Iterator[Conversation]:
    """The rows of a dataset, or of one of its splits, in their order; streamed: the transaction stays open meanwhile."""
    with connection.cursor(name="conversations") as cursor:
        cursor.itersize = 500
        for messages, *rest in cursor.execute(_ROWS, {"d": dataset_id, "split": split}):
            values: tuple[Any, ...] = (tuple(messages), *rest[:-1], tuple(rest[-1]))
            yield Conversation(*values)


class _Writer:
    """Writes batches of rows, and knows at the end what they come to."""

    def __init__(self, connection: Connection, collection: int, dataset: int) -> None:
        self._connection, self._collection, self._dataset = connection, collection, dataset
        self._digest = hashlib.blake2b(digest_size=16)
        self._counts: dict[str, Counter[str]] = {key: Counter() for key in ("rows", "origins", "tasks")}
        self.count = self._forgotten = 0

    @property
    def content_hash(self) -> str:
        return self._digest.hexdigest()

    @property
    def origin(self) -> str:
        origins = self._counts["origins"]
        return next(iter(origins)) if len(origins) == 1 else "mixed"

    def statistics(self) -> dict[str, Any]:
        counted: dict[str, Any] = {key: dict(sorted(count.items())) for key, count in self._counts.items()}
        return {**counted, "forgotten": self._forgotten} if self._forgotten else counted

    def write(self, batch: Sequence[Conversation]) -> None:
        rows = self._allowed(batch)
        if not rows:
            return
        with self._connection.cursor() as cursor:
            cursor.executemany(
                _INSERT,
                [
                    (
                        self._dataset, number, row.split, Jsonb(list(row.messages)), row.rejected, row.task, row.expected,
                        row.uri, list(row.documents), row.origin, Jsonb(dict(row.metadata)),
                    )
                    for number, row in enumerate(rows, self.count + 1)
                ],
            )  # fmt: skip
        uris = {uri for row in rows for uri in row.named}
        self._connection.execute(
            "insert into ragworks.dataset_document select %s, * from unnest(%s::bytea[]) on conflict do nothing",
            (self._dataset, [uri_hash(uri) for uri in sorted(uris)]),
        )
        self._count(rows)

    def _allowed(self, batch: Sequence[Conversation]) -> list[Conversation]:
        """Without what was forgotten while the rows were made: of its passages an answer may have learned."""
        uris = {uri for row in batch for uri in row.named}
        gone = kept_out.is_forgotten(self._connection, self._collection, sorted(uris))
        kept = [row for row in batch if gone.isdisjoint(row.named)]
        self._forgotten += len(batch) - len(kept)
        return kept

    def _count(self, rows: Sequence[Conversation]) -> None:
        self.count += len(rows)
        for row in rows:
            self._counts["rows"][row.split] += 1
            self._counts["origins"][row.origin] += 1
            self._counts["tasks"][row.task] += 1
            self._digest.update(canonical_json(_content(row)).encode("utf-8", "surrogatepass") + b"\n")


def _content(row: Conversation) -> list[Any]:
    """What makes a row another row."""
    place = [row.split, row.task, row.expected, row.uri, list(row.documents), row.origin]
    return [list(row.messages), row.rejected, *place, dict(row.metadata)]


_INSERT = """
insert into ragworks.dataset_conversation
    (dataset_id, ordinal, split, messages, rejected, task, expected, uri, documents, origin, metadata)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""

_ROWS = """
select messages, rejected, split, task, expected, uri, origin, metadata, documents from ragworks.dataset_conversation
where dataset_id = %(d)s and (%(split)s::text is null or split = %(split)s) order by ordinal
"""

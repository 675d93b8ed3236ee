"""The peers as the driver sees them: what to start, and which rows a reader finds in each one's index right now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from include.errors import BadData
from include.store import chunks, collections, generations

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Connection = psycopg.Connection[tuple[Any, ...]]
    Rows = list[tuple[str, str]]


@dataclass(frozen=True)
class Peer:
    """One system.

    :param packages: what its versions are read from.
    :param rows: (document, chunk text) of all that a query could find; empty before anything is there.
    :param schemas: where it keeps its tables.
    :param notes_last: keeps notes outside the database, saved after the rows: a moment worth killing it in.
    :param ours: runs in the driver's Python, the others in ``--peer-python``.
    """

    name: str
    title: str
    packages: Sequence[str]
    rows: Callable[[Connection], Rows]
    schemas: Sequence[str] = ("public",)
    notes_last: bool = False
    ours: bool = False

    @property
    def module(self) -> str:
        """What its child process runs."""
        return f"bench.incremental.peer_{self.name}"


def read_rows(peer: Peer, url: str) -> Rows:
    """What the index holds now, at one instant."""
    with psycopg.connect(url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        return visible(peer, connection)


def visible(peer: Peer, connection: Connection) -> Rows:
    """The same on an open connection; ends its transaction."""
    try:
        return peer.rows(connection)
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName, BadData):
        return []
    finally:
        connection.rollback()


def _ragworks(connection: Connection) -> Rows:
    live = generations.live_generation(connection, collections.collection_id(connection, "bench"))
    if live is None:
        return []
    return [(row["document"], row["text"]) for row in chunks.export_chunks(connection, live, vectors=False)]


def _columns(table: str, document: str, text: str) -> Callable[[Connection], Rows]:
    statement = sql.SQL(f"select {document}, {text} from {table}")

    def rows(connection: Connection) -> Rows:
        return [(str(d), str(t)) for d, t in connection.execute(statement)]

    return rows


PEERS = (
    Peer("ragworks", "Ragworks", (), _ragworks, ("ragworks",), ours=True),
    Peer(
        "langchain", "LangChain index()", ("langchain-core", "langchain-classic", "langchain-postgres"),
        _columns("langchain_chunks", "langchain_metadata->>'source'", "content"),
    ),
    Peer(
        "llamaindex", "LlamaIndex IngestionPipeline", ("llama-index-core", "llama-index-vector-stores-postgres"),
        _columns("data_llamaindex_chunks", "metadata_->>'path'", "text"), notes_last=True,
    ),
    Peer("cocoindex", "CocoIndex", ("cocoindex",), _columns("cocoindex_chunks", "path", "text")),
)  # fmt: skip

"""Generations: one built index of a collection each, with its own chunk table; exactly one is live.

A candidate is one that evaluations alone ask: an index made with an embedder that is on trial. It is never live and nothing
that looks for live, building or kept generations finds it, but its vectors are used again like those of any other.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from include.errors import BadConfiguration, BadData, Transient
from include.store import lexical

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from psycopg.sql import Identifier

    from include.store.pool import Connection

INDEX_LOCK, ATTENDED_LOCK = 0x5249, 0x5241  # advisory lock classes; the second key is the generation's id
REFERENCE = ""  # the key of candidates that belong to no training: models that every challenger is compared with
MAX_DIMENSION = {"halfvec": 4000, "vector": 2000}  # of an HNSW index, https://github.com/pgvector/pgvector#hnsw

# A chunk's vector is written once; its place in the document, which an edit above it moves, has a narrow row of its own.
_TABLES = (
    "create table {chunks} (document_id bigint not null, seq int not null, tokens int not null, text_hash uuid not null,"
    " embedding {vector} not null, lexical int[])",
    "create unique index on {chunks} (document_id, seq)",
    "create index on {chunks} (text_hash)",
    "create table {spans} (document_id bigint not null, seq int not null, ordinal int not null, start_char int not null,"
    " end_char int not null, metadata jsonb, primary key (document_id, seq)) with (fillfactor = 90)",
    "create table {staged} (document_id bigint not null, ordinal int not null, start_char int not null, end_char int not null,"
    " tokens int not null, text_hash uuid not null, metadata jsonb, embedding {vector} not null, lexical int[])",
    "create index on {staged} (document_id)",
    "create index on {staged} (text_hash)",
    "create table {terms} (term int primary key, chunks int not null)",
)
_COLUMNS = sql.SQL(
    "id, collection_id, spec, spec_hash, embedder, dimension, storage, packed, state, canary, metrics, gate, created_at,"
    " live_at, retired_at"
)


@dataclass(frozen=True, slots=True)
class Generation:
    """A row of ragworks.generation.

    :param packed: its words are packed, not a sparsevec of weights as in generations of earlier releases.
    :param canary: the flattened embeddings of the fixed strings.
    :param gate: how its quality compared with the generation it was to replace.
    """

    id: int
    collection_id: int
    spec: dict[str, Any]
    spec_hash: str
    embedder: str
    dimension: int
    storage: str
    packed: bool
    state: str
    canary: list[float] | None
    metrics: dict[str, Any]
    gate: dict[str, Any] | None
    created_at: datetime
    live_at: datetime | None
    retired_at: datetime | None

    @property
    def chunks(self) -> Identifier:
        """The table that answers queries once the generation is live."""
        return sql.Identifier("ragworks", f"chunks_{self.id}")

    @property
    def words(self) -> str:
        """The type of the column with a chunk's words."""
        return "int4[]" if self.packed else "sparsevec"

    @property
    def spans(self) -> Identifier:
        """Where each chunk of :attr:`chunks` stands in its document: what an edit further up changes, and no vector with it."""
        return sql.Identifier("ragworks", f"spans_{self.id}")

    @property
    def staged(self) -> Identifier:
        """The table where the changes of a live generation wait for publish."""
        return sql.Identifier("ragworks", f"staged_{self.id}")

    @property
    def terms(self) -> Identifier:
        """How many of :attr:`chunks` have each word."""
        return sql.Identifier("ragworks", f"terms_{self.id}")


def generations(connection: Connection, collection: int) -> list[Generation]:
    """All generations of a collection, oldest first."""
    with connection.cursor(row_factory=class_row(Generation)) as cursor:
        query = sql.SQL("select {} from ragworks.generation where collection_id = %s order by id").format(_COLUMNS)
        return cursor.execute(query, (collection,)).fetchall()


def generation(connection: Connection, generation_id: int, *, lock: bool = False) -> Generation:
    """One generation by its id.

    :param lock: keep its state as it is until the transaction ends.
    """
    with connection.cursor(row_factory=class_row(Generation)) as cursor:
        query = sql.SQL("select {} from ragworks.generation where id = %s{}").format(
            _COLUMNS, sql.SQL(" for share" if lock else "")
        )
        row = cursor.execute(query, (generation_id,)).fetchone()
    if row is None:
        raise Transient(f"generation {generation_id} does not exist", "another run dropped it", "Run again")
    return row


def live_generation(connection: Connection, collection: int) -> Generation | None:
    """The generation that answers queries."""
    return next((g for g in generations(connection, collection) if g.state == "live"), None)


def require_live(connection: Connection, collection: int, name: str) -> Generation:
    """The generation that answers queries.

    :raises BadData: no run of the collection has been published.
    """
    live = live_generation(connection, collection)
    if live is None:
        raise no_live_index(name)
    return live


def live_of(connection: Connection, name: str) -> Generation:
    """The generation that answers the queries of a collection, by its name: one look for each query.

    :raises BadData: there is no such collection, or no run of it has been published.
    """
    with connection.cursor(row_factory=class_row(Generation)) as cursor:
        query = sql.SQL(
            "select {} from ragworks.generation where state = 'live'"
            " and collection_id = (select id from ragworks.collection where name = %s)"
        ).format(_COLUMNS)
        live = cursor.execute(query, (name,)).fetchone()
    if live is None:
        raise no_live_index(name)
    return live


def no_live_index(name: str) -> BadData:
    """What to say of a collection that has not been published."""
    return BadData(f"collection {name!r} has no live index", "no run has been published", f"Run: ragworks index {name}")


def create_generation(
    connection: Connection,
    collection: int,
    *,
    spec: dict[str, Any],
    spec_hash: str,
    embedder: str,
    dimension: int,
    storage: str,
    rebuild: bool = False,
    candidate_of: str | None = None,
) -> Generation:
    """A new generation in state building, with its empty chunk tables; it replaces an unfinished one.

    :param rebuild: it reuses no vectors of others; kept in its metrics, so that a rebuild that was killed can go on.
    :param candidate_of: make a candidate instead, which replaces nothing: of the training of this key, :data:`REFERENCE` of
        none.
    """
    if dimension > MAX_DIMENSION[storage]:
        raise BadConfiguration(
            f"the model gives {dimension} dimensions",
            f"pgvector indexes at most {MAX_DIMENSION[storage]} as {storage}",
            "Set embedding.storage to halfvec, or take a smaller model",
        )
    state = "building"
    metrics: dict[str, Any] = {"rebuild": rebuild}
    if candidate_of is not None:
        state, metrics = "candidate", {"rebuild": False, "run_key": candidate_of, "complete": False}
    for unfinished in generations(connection, collection):
        if unfinished.state == state == "building":
            drop_generation(connection, unfinished)
    row = connection.execute(
        "insert into ragworks.generation (collection_id, spec, spec_hash, embedder, dimension, storage, packed, state, metrics)"
        " values (%s, %s, %s, %s, %s, %s, true, %s, %s) returning id",
        (collection, Jsonb(spec), spec_hash, embedder, dimension, storage, state, Jsonb(metrics)),
    ).fetchone()
    made = generation(connection, row[0] if row else 0)
    vector = sql.SQL("{}({})").format(sql.SQL("halfvec" if storage == "halfvec" else "vector"), sql.Literal(dimension))
    names = {"chunks": made.chunks, "spans": made.spans, "staged": made.staged, "terms": made.terms, "vector": vector}
    for statement in _TABLES:
        connection.execute(sql.SQL(statement).format(**names))
    return made


def save_canary(connection: Connection, generation_id: int, canary: list[float]) -> None:
    """Keep the embeddings of the canary strings with the generation."""
    connection.execute("update ragworks.generation set canary = %s where id = %s and canary is null", (canary, generation_id))


def build_index(connection: Connection, built: Generation, *, m: int, ef_construction: int) -> None:
    """Build HNSW and the index of words over the loaded chunks (several times quicker than row by row), once."""
    connection.execute("select pg_advisory_xact_lock(%s, %s)", (INDEX_LOCK, built.id))
    exists = connection.execute("select to_regclass(%s)", (f"ragworks.chunks_{built.id}_hnsw",)).fetchone()
    if exists != (None,):
        return
    connection.execute("set local maintenance_work_mem = '512MB'")
    operators = sql.SQL("halfvec_cosine_ops" if built.storage == "halfvec" else "vector_cosine_ops")
    connection.execute(
        sql.SQL("create index {} on {} using hnsw (embedding {}) with (m = {}, ef_construction = {})").format(
            sql.Identifier(f"chunks_{built.id}_hnsw"),
            built.chunks,
            operators,
            sql.Literal(m),
            sql.Literal(ef_construction),
        )
    )
    # Hashes arrive in random order and leave their pages two thirds full.
    connection.execute(sql.SQL("reindex index {}").format(sql.Identifier("ragworks", f"chunks_{built.id}_text_hash_idx")))
    if "lexical" in built.spec:
        lexical.index_terms(connection, built)


def analyze(connection: Connection, built: Generation) -> None:
    """Refresh the planner's statistics of a chunk table."""
    connection.execute(sql.SQL("analyze {}, {}").format(built.chunks, built.spans))
    connection.execute("analyze ragworks.generation_document")


def make_live(connection: Connection, built: Generation) -> None:
    """Swap: the live generation retires and this one answers queries, in the caller's transaction."""
    connection.execute(
        "update ragworks.generation set state = 'retired', retired_at = now() where collection_id = %s and state = 'live'",
        (built.collection_id,),
    )
    connection.execute(
        "update ragworks.generation set state = 'live', live_at = now(), retired_at = null where id = %s", (built.id,)
    )


def drop_generation(connection: Connection, old: Generation) -> None:
    """Remove a generation that is not live, with its tables."""
    # In the order in which searches come to them: else the two may wait for each other.
    tables = sql.SQL(", ").join((old.terms, old.chunks, old.spans, old.staged))
    connection.execute(sql.SQL("drop table if exists {}").format(tables))
    connection.execute("delete from ragworks.generation where id = %s and state <> 'live'", (old.id,))


def fail(connection: Connection, refused: Generation, gate: dict[str, Any]) -> None:
    """Keep a built generation out of service, with the comparison that speaks against it."""
    connection.execute(
        "update ragworks.generation set state = 'failed', retired_at = now(), gate = %s where id = %s and state = 'building'",
        (Jsonb(gate), refused.id),
    )


def save_gate(connection: Connection, generation_id: int, gate: dict[str, Any]) -> None:
    """Keep how a generation compared with the live one."""
    connection.execute("update ragworks.generation set gate = %s where id = %s", (Jsonb(gate), generation_id))


def drop_old(connection: Connection, collection: int, *, keep: int) -> None:
    """Drop retired generations beyond the ``keep`` that served last, of the failed all but the newest, and unscrubbed ones."""
    found = generations(connection, collection)
    for raw in [g for g in found if g.metrics.get("unscrubbed") and g.state in ("retired", "failed", "candidate")]:
        drop_generation(connection, raw)
        found.remove(raw)
    retired = [g for g in found if g.state == "retired"]
    retired.sort(key=lambda g: (g.retired_at or g.created_at, g.id), reverse=True)
    failed = [g for g in found if g.state == "failed"]
    for old in [*retired[keep:], *failed[: len(failed) - min(1, keep)]]:
        drop_generation(connection, old)


def candidates(connection: Connection, collection: int, run_key: str | None = None) -> list[Generation]:
    """Candidates of a training, or all, those of none (:data:`REFERENCE`) included; oldest first."""
    found = [g for g in generations(connection, collection) if g.state == "candidate"]
    return [g for g in found if run_key is None or g.metrics.get("run_key") == run_key]


def complete_candidate(connection: Connection, generation_id: int) -> None:
    """Note that a candidate holds every document of a moment, with its indexes."""
    connection.execute(
        "update ragworks.generation set metrics = metrics || '{\"complete\": true}' where id = %s and state = 'candidate'",
        (generation_id,),
    )


def abandoned_candidates(connection: Connection, collection: int) -> list[Generation]:
    """Candidates whose training was refused or failed."""
    rows = connection.execute(
        "select run_key from ragworks.model_run where collection_id = %s and state in ('refused', 'failed')", (collection,)
    )
    over = {str(row[0]) for row in rows}
    return [g for g in candidates(connection, collection) if g.metrics.get("run_key") in over]


def flag_unscrubbed(connection: Connection, collection: int) -> None:
    """Note that generations hold texts of before more was taken out: the live one is cleaned, the others are dropped."""
    connection.execute(
        "update ragworks.generation set metrics = metrics || '{\"unscrubbed\": true}' where collection_id = %s"
        " and state <> 'building'",
        (collection,),
    )


def any_unscrubbed(connection: Connection, collection: int) -> bool:
    """Whether a generation holds such texts, so that others may stand outside of the index too."""
    return bool(
        connection.execute(
            "select from ragworks.generation where collection_id = %s and metrics ? 'unscrubbed' limit 1", (collection,)
        ).rowcount
    )


def clear_unscrubbed(connection: Connection, generation_id: int) -> None:
    """Note that a generation holds such texts no more."""
    connection.execute("update ragworks.generation set metrics = metrics - 'unscrubbed' where id = %s", (generation_id,))


@contextmanager
def attending(connection: Connection, generation_id: int) -> Iterator[None]:
    """Show other runs that this session works on the generation; the server takes the sign down if the process dies."""
    connection.execute("select pg_advisory_lock_shared(%s, %s)", (ATTENDED_LOCK, generation_id))
    connection.commit()
    try:
        yield
    finally:
        if not connection.closed and not connection.broken:
            connection.execute("select pg_advisory_unlock_shared(%s, %s)", (ATTENDED_LOCK, generation_id))
            connection.commit()


def attended(connection: Connection, generation_id: int) -> bool:
    """Whether another session works on the generation."""
    row = connection.execute(
        "select exists (select from pg_locks where locktype = 'advisory' and classid = %s and objid = %s and granted"
        " and pid <> pg_backend_pid() and database = (select oid from pg_database where datname = current_database()))",
        (ATTENDED_LOCK, generation_id),
    ).fetchone()
    return bool(row and row[0])

"""What monitoring reads of the query log and its surroundings: counts made by the server, and bounded samples of vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pgvector import HalfVector, Vector
from psycopg import sql
from psycopg.rows import class_row, dict_row

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import LiteralString

    from numpy.typing import NDArray

    from include.store.generations import Generation
    from include.store.pool import Connection


SPARE = 10  # times as many chunks are drawn as are needed: pages are drawn, and some hold none of those that are looked for


@dataclass(frozen=True, slots=True)
class Log:
    """What the questions from one time to another came to. Means come with their deviation and their number.

    :param questions: searches and chats.
    :param slow: slower than the latency budget; of those that were ``timed``.
    :param judged: questions that somebody judged.
    :param embedder: and ``reranker``: fingerprints of the models that answered most questions, empty: none. Margins are of
        questions that both answered, confidence of those that this embedder did.
    """

    questions: int
    chats: int
    empty: int
    abstained: int
    failed: int
    timed: int
    slow: int
    p50: float | None
    p95: float | None
    margins: int
    margin: float | None
    margin_deviation: float | None
    confident: int
    confidence: float | None
    confidence_deviation: float | None
    grounded: int
    groundedness: float | None
    groundedness_deviation: float | None
    thumbs: int
    thumbs_down: int
    judged: int
    embedder: str
    reranker: str


_LOG = """
with one as (
    select q.kind, q.status, (q.seconds ->> 'search')::float8 + coalesce((q.seconds ->> 'embed')::float8, 0)
            + coalesce((q.seconds ->> 'rerank')::float8, 0) as total,
        (q.results #>> '{0,score}')::float8 - (q.results #>> '{1,score}')::float8 as gap,
        a.confidence, a.groundedness, f.thumbs, f.down, f.judged,
        coalesce(q.passport #>> '{embedder,fingerprint}', '') as embedder,
        case when (q.passport #>> '{reranker,candidates}')::int = 0 then ''
            else coalesce(q.passport #>> '{reranker,fingerprint}', '') end as reranker
    from ragworks.query_log q
    left join ragworks.answer a on a.id = q.id
    left join (
        select query_id, count(thumb) as thumbs, count(*) filter (where thumb < 0) as down, true as judged from (
            select distinct on (f.query_id, f.api_key_id) f.query_id, f.thumb
            from ragworks.feedback f join ragworks.query_log l on l.id = f.query_id
            where l.collection_id = %(c)s and l.created_at >= %(start)s and l.created_at < %(end)s and f.state <> 'rejected'
            order by f.query_id, f.api_key_id, (f.thumb is null), f.created_at desc, f.id desc
        ) latest group by query_id
    ) f on f.query_id = q.id
    where q.collection_id = %(c)s and q.created_at >= %(start)s and q.created_at < %(end)s and q.kind <> 'rerank'
), models as (
    select embedder, reranker from one where status <> 'failed' group by 1, 2 order by count(*) desc, 1, 2 limit 1
)
select count(*) as questions, count(*) filter (where kind = 'chat') as chats,
    count(*) filter (where status = 'empty') as empty,
    count(*) filter (where kind = 'chat' and status in ('abstained', 'empty')) as abstained,
    count(*) filter (where status = 'failed') as failed,
    count(total) as timed, count(*) filter (where total > %(budget)s) as slow,
    percentile_cont(0.5) within group (order by total) as p50, percentile_cont(0.95) within group (order by total) as p95,
    count(gap) filter (where same_both) as margins, avg(gap) filter (where same_both) as margin,
    stddev_pop(gap) filter (where same_both) as margin_deviation,
    count(confidence) filter (where same_embedder) as confident,
    (avg(confidence) filter (where same_embedder))::float8 as confidence,
    (stddev_pop(confidence) filter (where same_embedder))::float8 as confidence_deviation,
    count(groundedness) as grounded, avg(groundedness)::float8 as groundedness,
    stddev_pop(groundedness)::float8 as groundedness_deviation,
    coalesce(sum(thumbs), 0)::int as thumbs, coalesce(sum(down), 0)::int as thumbs_down, count(judged) as judged,
    coalesce((select embedder from models), '') as embedder, coalesce((select reranker from models), '') as reranker
from (
    select one.*, one.embedder = m.embedder as same_embedder,
        one.embedder = m.embedder and one.reranker = m.reranker as same_both
    from one left join models m on true
) as one
"""


def log(connection: Connection, collection: int, start: datetime, end: datetime, *, latency_budget: float) -> Log:
    """Counts and means of a window; the rows stay on the server.

    :param latency_budget: of a search, in seconds.
    """
    with connection.cursor(row_factory=class_row(Log)) as cursor:
        found = cursor.execute(_LOG, {"c": collection, "start": start, "end": end, "budget": latency_budget}).fetchone()
    if found is None:
        raise RuntimeError("an aggregate without a row")
    return found


def first_question(connection: Connection, collection: int) -> datetime | None:
    """When the collection was first asked, as far as the log goes back."""
    row = connection.execute(
        "select min(created_at) from ragworks.query_log where collection_id = %s and kind <> 'rerank'", (collection,)
    ).fetchone()
    return row[0] if row else None


def questions(connection: Connection, collection: int, start: datetime, end: datetime) -> int:
    """How many were asked."""
    row = connection.execute(
        "select count(*) from ragworks.query_log where collection_id = %s and created_at >= %s and created_at < %s"
        " and kind <> 'rerank'",
        (collection, start, end),
    ).fetchone()
    return int(row[0]) if row else 0


def questions_by_window(
    connection: Connection, collection: int, start: datetime, end: datetime, *, origin: datetime, hours: float
) -> dict[int, int]:
    """How many were asked in each window of a grid, by its number from ``origin``; those without any are left out."""
    rows = connection.execute(
        "select floor(extract(epoch from created_at - %(origin)s) / %(length)s)::bigint, count(*) from ragworks.query_log"
        " where collection_id = %(c)s and created_at >= %(start)s and created_at < %(end)s and kind <> 'rerank' group by 1",
        {"c": collection, "start": start, "end": end, "origin": origin, "length": hours * 3600},
    )
    return {int(number): int(count) for number, count in rows}


def vectors(
    connection: Connection, collection: int, start: datetime, end: datetime, *, embedder: str, limit: int
) -> NDArray[np.float32]:
    """Vectors of questions that one embedder made, a random sample that is the same each time (ids are random).

    :param embedder: its fingerprint; vectors of another lie in another space.
    :return: shape (n, dimension); n is at most ``limit``.
    """
    rows = connection.execute(
        "select embedding from (select id, embedding from ragworks.query_log where collection_id = %s and created_at >= %s"
        " and created_at < %s and kind <> 'rerank' and embedding is not null"
        " and passport #>> '{embedder,fingerprint}' = %s order by id limit %s) sample",
        (collection, start, end, embedder, limit),
        binary=True,
    ).fetchall()
    return np.stack([row[0].to_numpy() for row in rows]).astype(np.float32) if rows else np.zeros((0, 0), np.float32)


def first_vector(connection: Connection, collection: int, embedder: str) -> datetime | None:
    """When the oldest question was asked whose vector, made by this embedder, is still kept."""
    row = connection.execute(
        "select min(created_at) from ragworks.query_log where collection_id = %s and kind <> 'rerank'"
        " and embedding is not null and passport #>> '{embedder,fingerprint}' = %s",
        (collection, embedder),
    ).fetchone()
    return row[0] if row else None


def nearest(connection: Connection, live: Generation, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosine of each vector with the nearest chunk of a generation, shape (n,)."""
    kind = HalfVector if live.storage == "halfvec" else Vector
    statement = sql.SQL("select 1 - (embedding <=> %s) from {} order by embedding <=> %s limit 1").format(live.chunks)
    found = []
    with connection.transaction():
        connection.execute("select set_config('hnsw.ef_search', '40', true)")
        for vector in vectors:
            value = kind(vector)
            row = connection.execute(statement, (value, value), prepare=True).fetchone()
            if row is not None:
                found.append(float(row[0]))
    return np.array(found)


def chunk_vectors(
    connection: Connection, live: Generation, start: datetime, end: datetime, *, limit: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], int]:
    """Chunks written in a window and those of before, a sample of each, and how many there are of the former."""
    since = (
        "from ragworks.generation_document g join ragworks.run r on r.id = g.run_id where g.generation_id = %(g)s"
        " and not g.staged and r.started_at >= %(start)s and r.started_at < %(end)s"
    )
    values = {"g": live.id, "start": start, "end": end, "limit": limit}
    new = _count(connection, "select coalesce(sum(g.chunks), 0) " + since, values)
    if not new:
        return np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32), 0
    everything = "select coalesce(sum(chunks), 0) from ragworks.generation_document where generation_id = %(g)s and not staged"
    sides = []
    for condition, count in (("in", new), ("not in", _count(connection, everything, values) - new)):
        # Of many, pages of the table are drawn, the same each time: to sort all of them would read every vector.
        share = 100 * SPARE * limit / max(1, count)
        drawn = f" tablesample system ({share:.6f}) repeatable (1)" if share < 100 else ""
        statement = sql.SQL(
            "select embedding from {}" + drawn + " where document_id " + condition + " (select g.document_id " + since + ")"
            " order by text_hash limit %(limit)s"
        ).format(live.chunks)
        rows = connection.execute(statement, values, binary=True).fetchall()
        sides.append(np.stack([row[0].to_numpy() for row in rows]).astype(np.float32) if rows else np.zeros((0, 0), np.float32))
    return sides[0], sides[1], new


def _count(connection: Connection, statement: LiteralString, values: Mapping[str, Any]) -> int:
    row = connection.execute(statement, values).fetchone()
    return int(row[0]) if row else 0


def surroundings(connection: Connection, collection: int, start: datetime, end: datetime) -> dict[str, Any]:
    """State beside the log, as of ``end``: age of the index, quarantine, trainings."""
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(
            "select (select max(finished_at) from ragworks.run where collection_id = %(c)s and state = 'done'"
            "  and mode in ('incremental', 'rebuild') and finished_at <= %(end)s) as indexed_at,"
            " (select count(distinct uri) from ragworks.quarantine where collection_id = %(c)s and first_seen <= %(end)s"
            "  and (resolved_at is null or resolved_at > %(end)s)) as quarantined,"
            " (select count(*) from ragworks.document where collection_id = %(c)s and state = 'present') as documents,"
            " (select count(*) from ragworks.model_run where collection_id = %(c)s and state = 'failed'"
            "  and finished_at >= %(start)s and finished_at < %(end)s)"
            " + (select count(*) from ragworks.decision d where collection_id = %(c)s and action = 'train'"
            "  and outcome ->> 'state' = 'failed' and ended_at >= %(start)s and ended_at < %(end)s"
            "  and not exists (select from ragworks.model_run r where r.run_key = d.run_key)) as failed_trainings,"
            " (select coalesce(sum(gpu_seconds), 0) from ragworks.model_run where collection_id = %(c)s"
            "  and created_at > %(end)s - interval '30 days' and created_at <= %(end)s) as gpu_seconds",
            {"c": collection, "start": start, "end": end},
        ).fetchone()
    return dict(row) if row else {}


_LABELS = (
    "select count(distinct f.query_id) from ragworks.feedback f join ragworks.query_log q on q.id = f.query_id"
    " where q.collection_id = %(c)s and f.state = 'accepted' and f.purpose is distinct from 'golden' and f.created_at <= %(at)s"
)


def labels_since(connection: Connection, collection: int, since: datetime | None, at: datetime) -> int:
    """Questions of feedback that a dataset would learn from: given by ``at``, and accepted after ``since``.

    It names a document, or likes an answer for what that cites. Golden queries do not count: datasets leave them out.

    :param since: when data was last taken; None: never.
    """
    row = connection.execute(
        _LABELS + " and (%(since)s::timestamptz is null or coalesce(f.reviewed_at, f.created_at) > %(since)s)"
        " and (f.document is not null or f.thumb = 1 and exists (select from ragworks.answer a where a.id = f.query_id"
        "  and a.citations @? '$[*].document'))",
        {"c": collection, "since": since, "at": at},
    ).fetchone()
    return int(row[0]) if row else 0


def named_since(connection: Connection, collection: int, since: datetime, at: datetime) -> int:
    """Questions asked of the index whose answering document people named between two times, and a person accepted."""
    row = connection.execute(
        _LABELS + " and f.document is not null and f.created_at >= %(since)s", {"c": collection, "since": since, "at": at}
    ).fetchone()
    return int(row[0]) if row else 0


def last_promotion(connection: Connection, collection: int, at: datetime) -> datetime | None:
    """When a model was last promoted that serves still, in any environment."""
    row = connection.execute(
        "select max(created_at) from ragworks.deployment where collection_id = %s and state = 'live' and action = 'promote'"
        " and created_at <= %s",
        (collection, at),
    ).fetchone()
    return row[0] if row else None

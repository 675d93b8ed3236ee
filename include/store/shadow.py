"""Live questions that a challenger answered too, and who the challenger is. Numbers alone: a row goes with its question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg.rows import class_row, dict_row

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from include.store.pool import Connection

MOST = 5  # trainings that are looked at: an index of the newest may be gone


@dataclass(frozen=True, slots=True)
class Challenger:
    """A training whose model is proved or on trial, and does not serve.

    :param artifact: where the model lies; ``fingerprint`` is its own.
    """

    id: int
    run_key: str
    family: str
    artifact: str
    state: str


@dataclass(frozen=True, slots=True)
class Compared:
    """One question, answered twice.

    :param live_seconds: of the search that was shown; ``seconds`` of the challenger's.
    :param error: name of the exception that it ended with; then there are no figures.
    """

    query_id: UUID
    model_run_id: int
    depth: int
    overlap: float | None = None
    rbo: float | None = None
    same_first: bool | None = None
    live_seconds: float | None = None
    seconds: float | None = None
    error: str | None = None


def challengers(connection: Connection, environment: str, collection: int) -> list[Challenger]:
    """Rerankers and embedders that were evaluated or accepted since the one that serves here was made; newest first."""
    with connection.cursor(row_factory=class_row(Challenger)) as cursor:
        return cursor.execute(
            "select r.id, r.run_key, r.family, r.artifact, r.state from ragworks.model_run r where r.collection_id = %(c)s"
            " and r.family in ('reranker', 'embedder') and r.state in ('evaluated', 'accepted') and r.artifact is not null"
            " and r.id > coalesce((select max(d.model_run_id) from ragworks.deployment d where d.environment = %(e)s"
            "  and d.family = r.family and d.collection_id = %(c)s), 0) order by r.id desc limit %(most)s",
            {"c": collection, "e": environment, "most": MOST},
        ).fetchall()


def save(connection: Connection, compared: Compared) -> bool:
    """Keep a comparison; False: its question is not in the log, or is compared already."""
    return bool(
        connection.execute(
            "insert into ragworks.shadow (query_id, model_run_id, depth, overlap, rbo, same_first, live_seconds, seconds,"
            " error) select id, %s, %s, %s, %s, %s, %s, %s, %s from ragworks.query_log where id = %s on conflict do nothing",
            (
                compared.model_run_id, compared.depth, compared.overlap, compared.rbo, compared.same_first,
                compared.live_seconds, compared.seconds, compared.error, compared.query_id,
            ),
        ).rowcount
    )  # fmt: skip


def summary(connection: Connection, collection: int, start: datetime, end: datetime) -> list[dict[str, Any]]:
    """Figures by challenger, newest first, of questions asked from one time to another."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_SUMMARY, {"c": collection, "start": start, "end": end}).fetchall()


# 1.96 standard errors of a mean: samples are of hundreds.
_SUMMARY = """
select r.id as training, r.run_key, r.family, r.state, r.version, count(*)::int as questions,
    count(s.error)::int as failed, avg(s.overlap) as overlap,
    1.96 * stddev_samp(s.overlap) / sqrt(nullif(count(s.overlap), 0)) as overlap_margin,
    avg(s.rbo) as rbo, 1.96 * stddev_samp(s.rbo) / sqrt(nullif(count(s.rbo), 0)) as rbo_margin,
    avg(s.same_first::int)::float8 as same_first,
    percentile_cont(0.5) within group (order by s.live_seconds) as live_p50,
    percentile_cont(0.95) within group (order by s.live_seconds) as live_p95,
    percentile_cont(0.5) within group (order by s.seconds) as p50,
    percentile_cont(0.95) within group (order by s.seconds) as p95
from ragworks.shadow s join ragworks.query_log q on q.id = s.query_id join ragworks.model_run r on r.id = s.model_run_id
where q.collection_id = %(c)s and q.created_at >= %(start)s and q.created_at < %(end)s
group by r.id order by r.id desc
"""

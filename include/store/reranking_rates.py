"""How fast machines rerank: by this the second stage is kept within the latency budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from include.store.pool import Connection

KEPT = 0.9  # of what was known, with each search: half of it comes from the last seven
FRESH = "1 minute"  # an older rate is measured anew: a load that has gone must not keep the second stage out for ever


def save_rate(connection: Connection, host: str, reranker: str, pairs: int, seconds: float) -> None:
    """Add what one search took; older searches count less with every one, and not at all after :data:`FRESH`."""
    connection.execute(
        "insert into ragworks.reranking_rate as r (host, reranker, pairs, seconds)"
        " values (%(host)s, %(reranker)s, %(pairs)s, %(seconds)s) on conflict (host, reranker) do update set"
        " (pairs, seconds, measured_at) = (select excluded.pairs + kept, excluded.seconds + kept * r.seconds / r.pairs, now()"
        "  from round(case when r.measured_at > now() - %(fresh)s::interval then %(kept)s * r.pairs else 0 end) as kept)",
        {"host": host, "reranker": reranker, "pairs": pairs, "seconds": seconds, "kept": KEPT, "fresh": FRESH},
    )


def seconds_per_pair(connection: Connection, host: str, reranker: str) -> float | None:
    """The mean of the latest searches, or None when this machine has not used this model lately."""
    row = connection.execute(
        "select seconds / pairs from ragworks.reranking_rate where host = %s and reranker = %s"
        " and measured_at > now() - %s::interval",
        (host, reranker, FRESH),
    ).fetchone()
    return float(row[0]) if row else None

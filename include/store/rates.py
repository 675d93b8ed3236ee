"""How fast machines embed: what the next plan's seconds are reckoned with."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from include.store.pool import Connection


def save_rate(connection: Connection, host: str, embedder: str, tokens: int, seconds: float) -> None:
    """Keep the latest measurement of a machine and a model."""
    connection.execute(
        "insert into ragworks.embedding_rate (host, embedder, tokens, seconds) values (%s, %s, %s, %s)"
        " on conflict (host, embedder) do update set tokens = excluded.tokens, seconds = excluded.seconds, measured_at = now()",
        (host, embedder, tokens, seconds),
    )


def tokens_per_second(connection: Connection, host: str, embedder: str) -> float | None:
    """The latest measurement, or None when this machine has not used this model yet."""
    row = connection.execute(
        "select tokens / seconds from ragworks.embedding_rate where host = %s and embedder = %s and seconds > 0",
        (host, embedder),
    ).fetchone()
    return float(row[0]) if row else None

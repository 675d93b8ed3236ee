"""How fast machines embed: what the next plan's seconds are reckoned with."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from include.store.pool import Connection


KEPT = 20  # measurements of a model: on Kubernetes every pod is a machine with a name of its own


def save_rate(connection: Connection, host: str, embedder: str, tokens: int, seconds: float) -> None:
    """Keep the latest measurement of a machine and a model; of a model those of the last :data:`KEPT` machines."""
    connection.execute(
        "insert into ragworks.embedding_rate (host, embedder, tokens, seconds) values (%s, %s, %s, %s)"
        " on conflict (host, embedder) do update set tokens = excluded.tokens, seconds = excluded.seconds, measured_at = now()",
        (host, embedder, tokens, seconds),
    )
    connection.execute(
        "delete from ragworks.embedding_rate r using (select host, embedder, row_number() over ("
        "  partition by embedder order by measured_at desc, host = %s desc) as n from ragworks.embedding_rate) old"
        " where r.embedder = %s and old.embedder = r.embedder and old.host = r.host and old.n > %s",
        (host, embedder, KEPT),
    )


def tokens_per_second(connection: Connection, host: str, embedder: str) -> float | None:
    """The latest measurement of this machine, else of any; None when the model was not used yet."""
    row = connection.execute(
        "select tokens / seconds from ragworks.embedding_rate where embedder = %s and seconds > 0"
        " order by host = %s desc, measured_at desc limit 1",
        (embedder, host),
    ).fetchone()
    return float(row[0]) if row else None

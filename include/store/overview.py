"""What is there: collections with their generations, counts, sizes and freshness."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include.store import changes, chunks, generations, quarantine, runs

if TYPE_CHECKING:
    from include.store.pool import Connection


def overview(connection: Connection, name: str | None = None) -> list[dict[str, Any]]:
    """One entry a collection, by name."""
    rows = connection.execute(
        "select id, name from ragworks.collection where %(n)s::text is null or name = %(n)s order by name", {"n": name}
    ).fetchall()
    return [_collection(connection, int(row[0]), str(row[1])) for row in rows]


def _collection(connection: Connection, collection: int, name: str) -> dict[str, Any]:
    built = [describe_generation(connection, g) for g in generations.generations(connection, collection)]
    live = next((g for g in built if g["state"] == "live"), None)
    done = (r for r in runs.recent_runs(connection, collection, 100) if r.state == "done" and r.mode != "candidate")
    latest = next(done, None)
    return {
        "name": name,
        "documents": live["documents"] if live else 0,
        "chunks": live["chunks"] if live else 0,
        "pending": changes.sizes(connection, collection, live["id"] if live else None).pending,
        "quarantined": quarantine.count_open(connection, collection)[0],
        "last_run": latest.finished_at if latest else None,
        "generations": built,
    }


def describe_generation(connection: Connection, generation: generations.Generation) -> dict[str, Any]:
    """A generation with its counts and sizes."""
    held = changes.sizes(connection, generation.collection_id, generation.id).held
    return {
        "id": generation.id,
        "state": generation.state,
        "documents": held,
        "chunks": chunks.count_chunks(connection, generation),
        "model": generation.spec["embedding"]["model"],
        "dimension": generation.dimension,
        "spec_hash": generation.spec_hash,
        "created_at": generation.created_at,
        "live_at": generation.live_at,
        **chunks.sizes(connection, generation),
    }

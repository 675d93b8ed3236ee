"""Real questions whose topics change by a known schedule: the monitor speaks in the weeks that it should, and in no other."""

from __future__ import annotations

import gzip
import json
import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from include.embedding.local import LocalEmbedder
from include.monitoring.run import monitor
from include.progress import Silent
from include.store import collections
from include.store.pool import open_pool
from include.store.query_log import LoggedQuery, save_queries
from tests.support import index

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from include.config import Settings

START = datetime(2024, 1, 1, tzinfo=UTC)
WEEK = timedelta(days=7)
# Of schedule.json: 0 the reference, 1, 2 and 4 like it, 3 other topics, 6 half of them. bench/drift.py replays all of them.
EXPECTED = {0: False, 1: False, 2: False, 3: True, 4: False, 6: True}


def test_drift_of_real_questions(
    settings: Settings, documents: Path, collection: Callable[..., str], shared_data: Path
) -> None:
    (documents / "a.md").write_text("Genghis Khan founded the Mongol Empire.")
    collection(monitoring={"window_hours": 84, "reference_days": 7})
    index(settings, "handbook")
    with gzip.open(shared_data / "drift-squad-a" / "stream.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [row for row in map(json.loads, file) if row["week"] in EXPECTED]
    embedder = LocalEmbedder("all-MiniLM-L6-v2")
    vectors = embedder.embed_queries([row["text"] for row in rows])
    passport = {"embedder": {"model": "all-MiniLM-L6-v2", "fingerprint": embedder.fingerprint}}
    draw = random.Random(7)  # ids decide which questions are taken as a sample
    with open_pool(settings) as pool:
        with pool.connection() as connection:
            key = collections.collection_id(connection, "handbook")
            logged = [
                LoggedQuery(
                    key, "search", 1, row["text"], vector, passport, id=UUID(int=draw.getrandbits(128), version=4),
                    created_at=datetime.fromisoformat(row["timestamp"]),
                )
                for row, vector in zip(rows, vectors, strict=True)
            ]  # fmt: skip
            save_queries(connection, logged)
        drifted = {}
        for week in EXPECTED:
            end = START + (week + 1) * WEEK
            found = monitor(settings, pool, "handbook", at=end, run_key=f"test/{week}", progress=Silent())
            drifted[week] = {b.signal for b in found.breaches} >= {"query_drift", "embedding_drift"}
            assert drifted[week] or not found.breaches
    assert drifted == EXPECTED

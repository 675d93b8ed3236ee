"""The bare query, in a process of its own: ``python -m bench.load.bare JSON``, ended by SIGTERM.

Threads with a connection each send the statement that dense search finds its candidates with, and nothing else: vectors are
given, scan settings are set once, each statement is a transaction of its own. Writes {calls: [[sent, ms], …]}.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from psycopg import sql

from bench.load import turns
from bench.workload.library import TOGETHER
from include.collection_file import Retrieval
from include.config import Settings
from include.store import generations, search
from include.store.pool import open_pool

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from include.store.pool import Pool


def main() -> None:
    """Ask when it is the bare query's turn."""
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    settings = Settings(database_url=given["database"], home=given["home"], collections_dir=given["collections"])
    ended, calls = threading.Event(), list[list[float]]()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    vectors = np.load(given["vectors"])
    with open_pool(settings, max_size=given["clients"]) as pool:
        threads = [
            threading.Thread(target=_ask, args=(pool, vectors, given["start"], number, ended, calls))
            for number in range(given["clients"])
        ]
        for thread in threads:
            thread.start()
        while not ended.wait(0.2):  # signals reach the main thread between two waits
            pass
        for thread in threads:
            thread.join()
    Path(given["out"]).write_text(json.dumps({"calls": calls}), encoding="utf-8")


def _ask(
    pool: Pool, vectors: NDArray[np.float32], start: float, number: int, ended: threading.Event, calls: list[list[float]]
) -> None:
    draw = np.random.default_rng(number)
    depth = Retrieval().candidates
    with pool.connection() as connection:
        connection.autocommit = True
        connection.execute(
            "select set_config('hnsw.ef_search', %s, false), set_config('hnsw.iterative_scan', 'strict_order', false)",
            (str(max(search.EF_SEARCH, 2 * depth)),),
        )
        while not ended.is_set():
            if turns.served(time.time(), start):
                time.sleep(0.05)
                continue
            live = generations.live_of(connection, TOGETHER)
            statement = sql.SQL(
                "select c.document_id, c.seq from {} c where true order by c.embedding <=> %(query)s limit %(limit)s"
            ).format(live.chunks)
            while not ended.is_set() and not turns.served(time.time(), start):
                vector = vectors[draw.integers(len(vectors))]
                sent, started = time.time(), time.perf_counter()
                connection.execute(statement, {"query": search.as_vector(live, vector), "limit": depth}).fetchall()
                calls.append([sent, (time.perf_counter() - started) * 1000])
        connection.autocommit = False


if __name__ == "__main__":
    main()

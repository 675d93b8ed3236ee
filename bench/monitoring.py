"""How long the monitor takes over 100,000 logged questions, and how much memory.

    python -m bench.monitoring

The questions are vectors around 200 topics, with results, times and thumbs as serving logs them, over five weeks, of which the
first is the reference; the index has 2,000 chunks. Once in daily windows, all in one run; once in windows of a week. Prints the
table of docs/monitoring.md; three minutes on two quiet cores.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import psycopg
import yaml
from psycopg.conninfo import make_conninfo

from bench.drift_stream import MODEL
from include.config import Settings
from include.embedding.local import LocalEmbedder
from include.indexing.context import open_context
from include.indexing.pipeline import index_collection
from include.monitoring.run import monitor
from include.progress import Silent
from include.store import collections, embedded, feedback
from include.store.feedback import Feedback
from include.store.pool import open_pool
from include.store.query_log import LoggedQuery, save_queries

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from include.store.pool import Pool

START = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = 35
TOPICS = 200


class Drawn:
    """Vectors of the packaged encoder's shape, drawn around topics: embedding is not what is measured."""

    def __init__(self) -> None:
        real = LocalEmbedder(MODEL)
        self.fingerprint, self.dimension, self.max_tokens = real.fingerprint, real.dimension, real.max_tokens
        self.tokenizer = real.tokenizer
        self.draw = np.random.default_rng(3)
        self.topics = self.draw.standard_normal((TOPICS, self.dimension))

    def vectors(self, count: int) -> NDArray[np.float32]:
        """Shape (count, dimension), unit length."""
        chosen = self.topics[self.draw.integers(0, TOPICS, count)]
        found = chosen + 0.7 * self.draw.standard_normal((count, self.dimension))
        return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)

    def embed_documents(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        """The same for the same text within a call is not needed here, but for the canary it is."""
        kept = []
        for text in texts:
            draw = np.random.default_rng(int.from_bytes(text.encode()[:8], "little"))
            vector = self.topics[draw.integers(0, TOPICS)] + 0.7 * draw.standard_normal(self.dimension)
            kept.append(vector / np.linalg.norm(vector))
        return np.stack(kept).astype(np.float32)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Shape (dimension,)."""
        return self.embed_documents([text])[0]

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Shape (len(texts), dimension)."""
        return self.embed_documents(texts)


def fill(pool: Pool, name: str, embedder: Drawn, count: int) -> None:
    """Log questions, evenly over the days; every twentieth is judged."""
    passport = {"embedder": {"model": MODEL, "fingerprint": embedder.fingerprint}, "generation": 1}
    results = [{"document": f"{n}.md", "ordinal": 0, "start": 0, "end": 400, "score": round(1 - n / 10, 2)} for n in range(10)]
    seconds = {"embed": 0.01, "search": 0.02, "rerank": 0.0, "total": 0.03}
    with pool.connection() as connection:
        key = collections.collection_id(connection, name)
        for first in range(0, count, 1000):
            size = min(1000, count - first)
            rows = [
                LoggedQuery(
                    key, "search", 1, f"question {first + n}", vector, passport, results, "ok", seconds,
                    created_at=START + (first + n) / count * timedelta(days=DAYS),
                )
                for n, vector in enumerate(embedder.vectors(size))
            ]  # fmt: skip
            save_queries(connection, rows)
            for row in rows[::20]:
                feedback.save_feedback(connection, Feedback(row.id, 1))
        connection.execute("analyze ragworks.query_log")


def one(server: str, folder: Path, hours: float, count: int) -> list[Any]:
    """A row of the table: windows, seconds, processor seconds, memory."""
    name = "log"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"create database monitoring_{int(hours)}")  # type: ignore[arg-type]
    home = folder / str(int(hours))
    settings = Settings(database_url=make_conninfo(server, dbname=f"monitoring_{int(hours)}"), home=home, collections_dir=home)
    documents = home / "documents"
    documents.mkdir(parents=True)
    for number in range(2000):
        (documents / f"{number}.md").write_text(f"{number:08d} page")
    kept = {"keep_texts_days": 36_500, "keep_days": 36_500}
    content = {
        "name": name, "source": {"type": "files", "path": str(documents)}, "query_log": kept,
        "near_duplicates": {"threshold": None},
        "monitoring": {"window_hours": hours, "reference_days": 7, "golden": False},
    }  # fmt: skip
    (home / f"{name}.yaml").write_text(yaml.safe_dump(content))
    embedder = Drawn()
    with open_context(settings, name, embedder=embedder) as context:
        index_collection(context)
    with open_pool(settings) as pool:
        fill(pool, name, embedder, count)
        server_before, before = server_seconds(folder), resource.getrusage(resource.RUSAGE_SELF)
        began = time.monotonic()
        found = monitor(settings, pool, name, at=START + timedelta(days=DAYS), run_key="bench", progress=Silent())
        wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF)
        of_server = server_seconds(folder) - server_before
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    grown = (after.ru_maxrss - before.ru_maxrss) / 1024
    return [count, found.windows, f"{wall:.1f}", f"{processor:.1f}", f"{of_server:.1f}", f"{grown:.0f}"]


def server_seconds(folder: Path) -> float:
    """Processor seconds of the server's processes that live; the pool keeps its own."""
    postmaster = int((folder / "postgres").glob("**/postmaster.pid").__next__().read_text().split()[0])
    return sum(sum(process.cpu_times()[:2]) for process in psutil.Process(postmaster).children())


def main() -> None:
    """Daily windows, then weekly ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=100_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = embedded.ensure_running(Path(folder) / "postgres")
        try:
            print(
                "| questions | windows | seconds | of the processor: monitor | and Postgres | MB it grew by |\n"
                + "|---" * 6
                + "|"
            )
            for hours in (24.0, 168.0):
                print("| " + " | ".join(map(str, one(server, Path(folder), hours, arguments.questions))) + " |", flush=True)
        finally:
            embedded.stop(Path(folder) / "postgres")


if __name__ == "__main__":
    main()

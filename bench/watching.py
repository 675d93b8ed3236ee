"""Seconds that one look at a local folder takes, by number of files: what `schedule.watch` costs."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from include.collection_file import load_collection
from include.config import Settings
from include.indexing.watching import pending_changes
from include.sources import open_source
from include.store import collections, embedded
from include.store.pool import open_pool

SIZES = (400, 10_000, 100_000)
LOOKS = 7


def main() -> None:
    """Print a line a size."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        url = embedded.ensure_running(home)
        try:
            for size in SIZES:
                settings = _indexed(home, url, size)
                wall, processor = _looks(settings)
                sys.stdout.write(f"{size:>7} files: wall {wall:.3f} s, processor time of the look {processor:.3f} s\n")
        finally:
            embedded.stop(home)


def _indexed(home: Path, url: str, size: int) -> Settings:
    """A folder of that many files, all of them known."""
    documents, files = home / f"documents{size}", home / f"collections{size}"
    files.mkdir()
    for number in range(size):
        path = documents / str(number // 1000) / f"{number}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (files / "docs.yaml").write_text(f"name: docs\nsource: {{type: files, path: {documents}}}\n")
    settings = Settings(database_url=url, home=home, collections_dir=files)
    time.sleep(0.1)  # until the newest file's time says for certain that it was not written again
    with open_pool(settings) as pool, pool.connection() as connection:
        collection = collections.ensure_collection(connection, "docs")
        connection.execute("delete from ragworks.source_object")
        with (
            connection.cursor() as cursor,
            cursor.copy("copy ragworks.source_object (collection_id, uri, fingerprint) from stdin") as copy,
        ):
            for found in open_source(load_collection(settings, "docs")).listing():
                copy.write_row((collection, found.uri, found.fingerprint))
    return settings


def _looks(settings: Settings) -> tuple[float, float]:
    """Medians of wall time and of this thread's processor time."""
    wall, processor = [], []
    for _ in range(LOOKS):
        began, spent = time.monotonic(), time.thread_time()
        found = pending_changes(settings, open_source(load_collection(settings, "docs")), "docs")
        wall.append(time.monotonic() - began)
        processor.append(time.thread_time() - spent)
        if found is not None:
            raise SystemExit(f"nothing changed, and yet: {found}")
    return statistics.median(wall), statistics.median(processor)


if __name__ == "__main__":
    main()

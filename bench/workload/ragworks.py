"""One run of Ragworks in a process of its own, through the code that `ragworks index` runs, with the fake embedder."""

from __future__ import annotations

import cProfile
import io
import json
import pstats
import sys
import time
from pathlib import Path
from typing import Any

from bench.workload.fake import FakeEmbedder
from bench.workload.process import peak_memory
from include.config import Settings
from include.indexing.context import open_context
from include.indexing.pipeline import index_collection


def run(settings: Settings, name: str, *, preload: bool, profile: int) -> dict[str, Any]:
    """Index once; the seconds are those of the work, with the connection and without Python's imports.

    :param preload: import beforehand what a run that writes imports in its middle.
    :param profile: functions to report by their cumulative time; 0 measures without a profiler.
    """
    if preload:
        import great_expectations  # noqa: F401

    embedder = FakeEmbedder()
    if preload:
        embedder.tokenizer.encode("load it")
    profiler = cProfile.Profile() if profile else None
    started, cpu = time.monotonic(), time.process_time()
    if profiler:
        profiler.enable()
    with open_context(settings, name, embedder=embedder) as context:
        result = index_collection(context)
    if profiler:
        profiler.disable()
    seconds, cpu = round(time.monotonic() - started, 3), round(time.process_time() - cpu, 2)
    return {"seconds": seconds, "cpu_seconds": cpu, "embedded": embedder.texts, "result": result} | (
        {"profile": _top(profiler, profile)} if profiler else {}
    )


def _top(profiler: cProfile.Profile, count: int) -> dict[str, list[str]]:
    tables = {}
    for order in ("cumulative", "tottime"):
        text = io.StringIO()
        pstats.Stats(profiler, stream=text).sort_stats(order).print_stats(count)
        tables[order] = [line for line in text.getvalue().splitlines() if line.strip()]
    return tables


def main() -> None:
    """``python -m bench.workload.ragworks '{"url": …, "home": …, "collections": …, "name": …}'``: print one JSON object."""
    given = json.loads(sys.argv[1])
    settings = Settings(database_url=given["url"], home=Path(given["home"]), collections_dir=Path(given["collections"]))
    result = run(settings, given["name"], preload=given.get("preload", False), profile=given.get("profile", 0))
    print(json.dumps(result | {"peak_bytes": peak_memory()}))


if __name__ == "__main__":
    main()

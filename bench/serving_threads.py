"""What serving adds to a search: a direct call, the same through the bounded thread pool, and over HTTP, in one run."""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import yaml

from include.config import Settings
from include.retrieval.query import Query
from include.serving.app import create_app
from include.serving.options import Options
from include.serving.server import Server
from include.serving.service import open_service
from include.store import embedded
from tests.support import HashEmbedder, index

if TYPE_CHECKING:
    from include.serving.service import Service


def main() -> None:
    """Print a table of medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--queries", type=int, default=500)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = _indexed(Path(folder), args.documents)
        options = Options(port=0, no_auth=True)
        with open_service(settings, options, embedder=HashEmbedder()) as service:
            texts = [f"question {n}" for n in range(args.queries)]
            direct, threads, http = asyncio.run(_measure(service, texts))
        embedded.stop(settings.home)
    print("| one client, dense, top 10 | p50 ms | p95 ms | over the direct call, p50 |\n|---|---|---|---|")
    for name, measured in (("direct call", direct), ("through the thread pool", threads), ("over HTTP", http)):
        p50, p95 = statistics.median(measured), statistics.quantiles(measured, n=20)[-1]
        print(f"| {name} | {p50:.2f} | {p95:.2f} | {p50 - statistics.median(direct):+.2f} |")


def _indexed(folder: Path, documents: int) -> Settings:
    (folder / "collections").mkdir()
    (folder / "rows.jsonl").write_text("".join(f'{{"id": "{n}", "text": "Row {n}."}}\n' for n in range(documents)))
    source = {"type": "jsonl", "path": str(folder / "rows.jsonl")}
    (folder / "collections" / "rows.yaml").write_text(yaml.safe_dump({"name": "rows", "source": source}))
    settings = Settings(home=folder / "home", collections_dir=folder / "collections")
    index(settings, "rows", embedder=HashEmbedder())
    return settings


async def _measure(service: Service, texts: list[str]) -> tuple[list[float], list[float], list[float]]:
    """Milliseconds of the three ways, in turn for each text, so that they see the same machine."""
    searcher, times = service.served("rows").searcher, ([], [], [])
    listening = threading.Event()
    server = Server(create_app(service), service.options, lambda _: listening.set())
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    listening.wait(20)
    with httpx.Client(base_url=server.url) as client:
        for text in texts:
            find = partial(searcher.find, Query(text, mode="dense"))
            body = {"collection": "rows", "query": text, "mode": "dense"}
            started = time.perf_counter()
            find()
            middle = time.perf_counter()
            await service.searches.run(find, 30)
            later = time.perf_counter()
            client.post("/v1/search", json=body)
            for kept, seconds in zip(times, (middle - started, later - middle, time.perf_counter() - later), strict=True):
                kept.append(seconds * 1000)
    server.should_exit = True
    thread.join(20)
    return times


if __name__ == "__main__":
    main()

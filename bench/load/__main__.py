"""Load on loopback: 16 clients ask the real server while the index is edited, rebuilt, swapped and rolled back.

    python -m bench.load --data ../shared/data --home /tmp/library100k --out docs/benchmarks/load

The library is that of bench.filtered: more than 100,000 chunks, the real model. `serve` runs as a child, as do the clients.
By turns of 7 and 3 seconds all 16 clients ask the server for dense search, and 16 threads send the bare statement behind it to
Postgres, each loop closed, while one client goes on; so both are measured on the same machine beside the same work. Meanwhile
documents that the questions find are edited and indexed, a new generation is built with another chunking and takes over, and
is rolled back twice. Counted are failed requests, and answers whose passages were never together in the generation that
their passport names. Search is the server's own figure, without the question's embedding. Writes OUT.json, OUT.md, OUT.svg.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np

from bench.filtered import NAMES
from bench.load import events, report
from bench.workload import shares
from bench.workload.library import TOGETHER, settings_of
from bench.workload.process import ROOT, stop_cleanly
from include.embedding.local import LocalEmbedder
from include.evaluation.judgements import read_qrels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from include.config import Settings

START_SECONDS = 120.0
logger = logging.getLogger("bench.load")


def main() -> None:
    """Build what is missing, load, report."""
    args = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    stop_cleanly()
    settings = settings_of(args.home)
    sections = {"chunking": {"max_tokens": args.max_tokens}, "generations": {"keep": 2, "max_quality_loss": 1.0}}
    shares.write_source(args.data, args.home, args.names, acl=False)
    built = shares.index(settings, **sections)
    drawn = shares.questions(args.data, args.names, args.questions)
    questions = [text for rows in drawn.values() for text in rows.values()]
    edited = [
        f"{name}/{document}" for name, rows in drawn.items()
        for query, judged in read_qrels(str(args.data / name / "qrels.tsv")).items() if query in rows
        for document in judged
    ]  # fmt: skip
    with TemporaryDirectory(prefix="ragworks-load-") as folder:
        work = Path(folder)
        np.save(work / "vectors.npy", LocalEmbedder("all-MiniLM-L6-v2").embed_queries(questions))
        with _server(settings, work) as url:
            given = {
                "url": url, "collection": TOGETHER, "questions": questions, "clients": args.clients,
                "database": settings.database_url, "home": str(settings.home), "collections": str(settings.collections_dir),
                "vectors": str(work / "vectors.npy"), "start": time.time() + 15,
            }  # fmt: skip
            with _child("clients", given, work) as clients, _child("bare", given, work) as bare:
                time.sleep(given["start"] - time.time())
                story = events.tell(settings, args.data, args.names, edited, sections, args.pause)
                time.sleep(max(0.0, given["start"] + args.seconds - time.time()))
            events.command(settings, "activate", TOGETHER, str(story.first))  # as it was, for the next benchmark
        found = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in (("clients", clients), ("bare", bare))}
    result = {
        "command": f"python -m bench.load --clients {args.clients} --questions {args.questions} --max-tokens {args.max_tokens}",
        "chunks": built["chunks"]["total"], "cpus": os.cpu_count(), "load_after": os.getloadavg()[0],
        "edited": len(set(edited)),
        **report.figures(found["clients"], found["bare"], story, given["start"]),
    }  # fmt: skip
    args.out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    report.write(args.out)
    print(report.table(result))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--home", type=Path, required=True, help="kept, and used again")
    parser.add_argument("--out", type=Path, required=True, help="path without its ending")
    parser.add_argument("--questions", type=int, default=60, help="of each collection (60)")
    parser.add_argument("--max-tokens", type=int, default=24, help="of a chunk (24)")
    parser.add_argument("--names", nargs="+", default=NAMES)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=90, help="at least, which 60 of the server's are part of (90)")
    parser.add_argument("--pause", type=float, default=12, help="seconds between two events (12)")
    return parser.parse_args()


@contextmanager
def _server(settings: Settings, work: Path) -> Iterator[str]:
    """`serve` as it is used, on a free port, warm."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with (work / "server.log").open("wb") as log:
        line = [sys.executable, "-m", "include", "serve", "--port", str(port), "--no-auth"]
        server = subprocess.Popen(line, cwd=ROOT, env=events.own(settings), stdout=subprocess.DEVNULL, stderr=log)
        try:
            _await(url, server)
            yield url
        finally:
            _end([server])


def _await(url: str, server: subprocess.Popen[Any]) -> None:
    """Until it answers, for which it loads the model.

    :raises SystemExit: it does not.
    """
    body = {"collection": TOGETHER, "query": "warm up", "mode": "dense"}
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and server.poll() is None:
        with suppress(httpx.TransportError):
            if httpx.post(f"{url}/v1/search", json=body, timeout=START_SECONDS).status_code == httpx.codes.OK:
                return
        time.sleep(0.5)
    raise SystemExit(f"the server did not answer within {START_SECONDS:.0f} s")


@contextmanager
def _child(name: str, given: dict[str, Any], work: Path) -> Iterator[Path]:
    """One of the two loads; its figures are in the file once it ended."""
    out = work / f"{name}.json"
    asked = work / f"{name}-asked.json"
    asked.write_text(json.dumps(given | {"out": str(out)}), encoding="utf-8")
    child = subprocess.Popen([sys.executable, "-m", f"bench.load.{name}", str(asked)], cwd=ROOT)
    try:
        yield out
    finally:
        _end([child])


def _end(children: Sequence[subprocess.Popen[Any]]) -> None:
    for child in children:
        child.send_signal(signal.SIGTERM)
    for child in children:
        child.wait(timeout=60)


if __name__ == "__main__":
    main()

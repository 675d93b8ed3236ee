"""A hundred thousand documents: first run against the bare cost, unchanged run, memory of the worker, bytes a chunk.

    python -m bench.large --documents 100000
    python -m bench.large --documents 100000 --sources files
    python -m bench.large --documents 20000 --profile 25        # where the time goes; its seconds do not count
    python -m bench.large --shapes pages --docs-history ../shared/data/docs-history/diffusers-releases

Two shapes: `small`, documents of about 200 tokens of which most are one or two chunks, and `pages`, Markdown pages cut
into chunks of about 1,000 characters, which is what LangChain's 3,348 bytes a chunk were measured on. The embedder is a
hash of the text, so that what is left is reading, cutting, writing, indexing and bookkeeping. The bare script does that
without the bookkeeping, in the same run, in its own process and database on the same server; each worker is a process of
its own. Seconds are those of the work, without Python's start and imports; those of the whole process stand beside them.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from bench.workload import corpus, server
from bench.workload.process import call, stop_cleanly
from include.collection_file import load_collection
from include.config import Settings

logger = logging.getLogger("bench.large")

LIMITS = {"first_to_bare": 1.5, "unchanged_seconds": 3.0, "peak_gib": 1.0, "bytes_per_chunk": 3350}
PAGES_CHUNKS, PAGES_CHARACTERS = 49_050, 684  # of the LangChain figure: a 1,000-character splitter's chunks, their mean length
PAGES_TOKENS = 355  # max_tokens that gives chunks as long as that splitter's on these pages: 684 characters on average
STEP_SECONDS = 3600.0


@dataclass(frozen=True)
class Case:
    """A corpus and how it is cut."""

    name: str
    source: dict[str, str]
    max_tokens: int = 200


def main() -> int:
    """Measure every shape; print one JSON object, and each limit with whether it holds. Exit 1 when one does not."""
    arguments = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    report: dict[str, Any] = {}
    stop_cleanly()
    with tempfile.TemporaryDirectory(prefix="ragworks-large-") as folder, server.server(Path(folder) / "home") as url:
        for case in _cases(Path(folder), arguments):
            report[case.name] = _measure(Path(folder), url, case, arguments)
    verdicts = [verdict for name, figures in report.items() for verdict in _verdicts(name, figures)]
    text = json.dumps({"documents": arguments.documents, "shapes": report, "limits": verdicts}, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n", encoding="utf-8")
    for verdict in verdicts:
        print(
            f"{verdict['verdict']:4}  {verdict['shape']}: {verdict['figure']} {verdict['measured']} (limit {verdict['limit']})"
        )
    return 0 if all(v["verdict"] == "pass" for v in verdicts) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=20_000, help="of about 200 tokens (20000)")
    parser.add_argument("--sources", choices=("jsonl", "files"), default="jsonl", help="one file of rows, or a file each")
    parser.add_argument("--shapes", nargs="+", choices=("small", "pages"), default=["small"])
    parser.add_argument("--docs-history", type=Path, help="folder with materialize.py: the pages of the shape `pages`")
    parser.add_argument("--repeat", type=int, default=5, help="unchanged runs; their median counts (5)")
    parser.add_argument("--profile", type=int, default=0, metavar="N", help="report the N dearest functions and statements")
    parser.add_argument("--json", type=Path, help="write the report here as well")
    arguments = parser.parse_args()
    if "pages" in arguments.shapes and not arguments.docs_history:
        parser.error("--shapes pages needs --docs-history")
    return arguments


def _cases(folder: Path, arguments: argparse.Namespace) -> list[Case]:
    cases = []
    if "small" in arguments.shapes:
        logger.info("making %d documents", arguments.documents)
        if arguments.sources == "files":
            corpus.write_files(folder / "small", arguments.documents)
            cases.append(Case("small", {"type": "files", "path": str(folder / "small"), "glob": "**/*.md"}))
        else:
            corpus.write_jsonl(folder / "small.jsonl", arguments.documents)
            cases.append(Case("small", {"type": "jsonl", "path": str(folder / "small.jsonl")}))
    if "pages" in arguments.shapes:
        _write_pages(folder, arguments.docs_history)
        cases.append(Case("pages", {"type": "jsonl", "path": str(folder / "pages.jsonl")}, PAGES_TOKENS))
    time.sleep(3)  # so that the files' time stamps can be trusted
    return cases


def _write_pages(folder: Path, history: Path) -> None:
    tree = folder / "tree"
    subprocess.run([sys.executable, str(history / "materialize.py"), "v15", str(tree)], check=True, stdout=sys.stderr)
    pages = [(p.relative_to(tree).as_posix(), p.read_text(encoding="utf-8")) for p in sorted(tree.rglob("*.md"))]
    characters = sum(len(text) for _, text in pages)
    copies = round(PAGES_CHUNKS * PAGES_CHARACTERS / characters)
    corpus.write_copies(folder / "pages.jsonl", pages, copies)
    logger.info("%d pages, %d characters, %d copies", len(pages), characters, copies)


def _measure(folder: Path, url: str, case: Case, arguments: argparse.Namespace) -> dict[str, Any]:
    collections = folder / f"collections-{case.name}"
    collections.mkdir()
    content = {"name": case.name, "source": case.source, "chunking": {"max_tokens": case.max_tokens}}
    (collections / f"{case.name}.yaml").write_text(yaml.safe_dump(content))
    settings = Settings(home=folder / "home", collections_dir=collections)
    collection = load_collection(settings, case.name).model_dump(mode="json")
    logger.info("%s: bare script", case.name)
    bare_url = server.fresh_database(url, f"bare_{case.name}")
    bare = call("bench.workload.bare", {"url": bare_url, "collection": collection}, limit=STEP_SECONDS)
    database = server.fresh_database(url, f"ragworks_{case.name}")
    given = {"url": database, "home": str(settings.home), "collections": str(collections), "name": case.name}
    if arguments.profile:
        server.log_statements(url, 0)
    logger.info("%s: bare took %s s; first run of Ragworks", case.name, bare["seconds"])
    first = call("bench.workload.ragworks", given | {"preload": True, "profile": arguments.profile}, limit=STEP_SECONDS)
    statements = server.slow_statements(settings.home, arguments.profile) if arguments.profile else []
    logger.info("%s: first run took %s s; unchanged runs", case.name, first["seconds"])
    again = [call("bench.workload.ragworks", given, limit=STEP_SECONDS) for _ in range(arguments.repeat)]
    tables = server.table_bytes(database, ["ragworks"])
    chunks = first["result"]["chunks"]["total"]
    return {
        "case": asdict(case),
        "chunks": chunks,
        "bare": bare,
        "first": first,
        "first_to_bare": round(first["seconds"] / bare["seconds"], 2),
        "same_chunks_as_bare": chunks == bare["chunks"],
        "unchanged_seconds": round(median(run["seconds"] for run in again), 3),
        "unchanged_runs": [run["seconds"] for run in again],
        "unchanged_process_seconds": round(median(run["process_seconds"] for run in again), 2),
        "unchanged_embedded": sum(run["embedded"] for run in again),
        "peak_gib": round(max(run["peak_bytes"] for run in (first, *again)) / 2**30, 2),
        "bytes_per_chunk": round(sum(tables.values()) / max(1, chunks)),
        "tables": {name: size for name, size in tables.items() if size > 2**20},
        "statements": statements,
    }


def _verdicts(shape: str, figures: dict[str, Any]) -> list[dict[str, Any]]:
    """A limit counts for the shape that it was set for: bytes for `pages`, the others for `small`."""
    counted = ("bytes_per_chunk",) if shape == "pages" else ("first_to_bare", "unchanged_seconds", "peak_gib")
    return [
        {
            "shape": shape,
            "figure": name,
            "measured": figures[name],
            "limit": LIMITS[name],
            "verdict": "pass" if figures[name] <= LIMITS[name] else "FAIL",
        }
        for name in counted
    ]


if __name__ == "__main__":
    sys.exit(main())

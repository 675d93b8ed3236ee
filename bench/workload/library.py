"""Real collections, indexed once with the real model into a home that later benchmarks use again.

    python -m bench.workload.library --data ../shared/data --home /tmp/library scifact squad-a
    python -m bench.workload.library --data ../shared/data --home /tmp/library --together --max-tokens 80 all

A collection's folder holds corpus.jsonl.gz: lines of {"id", "title", "text", "metadata"}.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import yaml

from include.config import Settings
from include.indexing.context import open_context
from include.indexing.pipeline import index_collection
from include.store import embedded

COLLECTIONS = ("zenml-docs-qa", "so-airflow", "squad-a", "scifact", "medquad")
TOGETHER = "together"  # the name of all in one


def settings_of(home: Path) -> Settings:
    """A home with its own Postgres and collection files."""
    (home / "collections").mkdir(parents=True, exist_ok=True)
    return Settings(database_url=embedded.ensure_running(home), home=home, collections_dir=home / "collections")


def collection_name(folder: str) -> str:
    """A folder's name as a collection may be called."""
    return folder.replace("-", "_")


def build(settings: Settings, name: str, path: Path, glob: str, *, max_tokens: int) -> dict[str, object]:
    """Bring the collection up to date: what is indexed already costs nothing."""
    content = {
        "name": name,
        "source": {"type": "jsonl", "path": str(path), "glob": glob},
        "chunking": {"max_tokens": max_tokens},
        "near_duplicates": {"threshold": None},
    }
    (settings.collections_dir / f"{name}.yaml").write_text(yaml.safe_dump(content))
    with open_context(settings, name) as context:
        return index_collection(context)


def main() -> None:
    """Build what is asked for, and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--max-tokens", type=int, default=200)
    parser.add_argument("--together", action="store_true", help="one collection of them all, by the name of together")
    parser.add_argument("names", nargs="+", help=f"folders, or all: {', '.join(COLLECTIONS)}")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    names = COLLECTIONS if args.names == ["all"] else args.names
    settings = settings_of(args.home)
    if args.together:
        gathered = args.home / "sources"
        gathered.mkdir(exist_ok=True)
        for name in names:
            (gathered / f"{name}.jsonl.gz").write_bytes((args.data / name / "corpus.jsonl.gz").read_bytes())
        print(build(settings, TOGETHER, gathered, "*.jsonl.gz", max_tokens=args.max_tokens), flush=True)
        return
    for name in names:
        path = args.data / name / "corpus.jsonl.gz"
        print(build(settings, collection_name(name), path.parent, path.name, max_tokens=args.max_tokens), flush=True)


if __name__ == "__main__":
    main()

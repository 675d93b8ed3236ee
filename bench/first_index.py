"""First indexing end to end against bare SentenceTransformer.encode over the same chunks, and an unchanged run.

    python -m bench.first_index --corpus ../shared/data/scifact/corpus.jsonl.gz --limit 1500

The limit is the model alone: the same chunks, sorted by length, at sentence-transformers' own batch size and at ours; the
faster of the two counts. Ours reads the corpus, validates, chunks, embeds, writes and builds HNSW on a new database.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import tempfile
import time
from pathlib import Path

import yaml

from include.collection_file import Chunking, load_collection
from include.config import Settings
from include.embedding import local
from include.indexing.chunking import chunk_document
from include.indexing.context import open_context
from include.indexing.pipeline import index_collection
from include.sources import open_source
from include.store import embedded

BATCHES = (32, local.CPU_BATCH)  # the library's default and ours


def main() -> None:
    """Run and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True, help="a jsonl file, plain or gzipped")
    parser.add_argument("--limit", type=int, default=1500, help="documents to index (0: all)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), args.corpus, args.limit), indent=2))


def measure(folder: Path, corpus: str, limit: int) -> dict[str, object]:
    """The limit, then ours, then an unchanged run of ours, in this process with the model already loaded."""
    settings = _prepare(folder, corpus, limit)
    embedder = local.LocalEmbedder("all-MiniLM-L6-v2")
    embedder.embed_query("load the model outside the measured time")
    source = open_source(load_collection(settings, "bench"))
    documents = [d for obj in source.listing() for d in source.read(obj)]
    chunks = [c.text for d in documents for c in chunk_document(d.text, embedder.tokenizer, Chunking())]
    bare = {batch: _bare(embedder, sorted(set(chunks), key=len), batch) for batch in BATCHES}
    embedded.ensure_running(settings.home)
    try:
        first, first_seconds = _run(settings)
        unchanged = sorted(_run(settings)[1] for _ in range(5))
    finally:
        embedded.stop(settings.home)
    return {
        "documents": len(documents),
        "chunks": first["chunks"]["total"],  # type: ignore[index]
        "bare_encode_seconds": {f"batch {b}": round(s, 1) for b, s in bare.items()},
        "first_index_seconds": round(first_seconds, 1),
        "ratio_to_faster_bare": round(min(bare.values()) / first_seconds, 3),
        "ratio_to_default_bare": round(bare[32] / first_seconds, 3),
        "unchanged_seconds_median_of_5": round(unchanged[2], 3),
    }


def _prepare(folder: Path, corpus: str, limit: int) -> Settings:
    rows = folder / "corpus.jsonl"
    with gzip.open(corpus, "rt") if corpus.endswith(".gz") else Path(corpus).open() as lines:
        rows.write_text("".join(itertools.islice(lines, limit or None)))
    collections = folder / "collections"
    collections.mkdir()
    (collections / "bench.yaml").write_text(yaml.safe_dump({"name": "bench", "source": {"type": "jsonl", "path": str(rows)}}))
    time.sleep(3)  # so that the file's time stamp can be trusted
    return Settings(home=folder / "home", collections_dir=collections)


def _bare(embedder: local.LocalEmbedder, texts: list[str], batch: int) -> float:
    model = local._load(embedder._folder)
    started = time.monotonic()
    model.encode(texts, batch_size=batch, normalize_embeddings=True, show_progress_bar=False)
    return time.monotonic() - started


def _run(settings: Settings) -> tuple[dict[str, object], float]:
    started = time.monotonic()
    with open_context(settings, "bench") as context:
        result = index_collection(context)
    return result, time.monotonic() - started


if __name__ == "__main__":
    main()

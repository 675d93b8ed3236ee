"""Replays real documentation version by version; each state is compared with an index built from scratch.

    python -m bench.replay --series ../shared/data/docs-history/diffusers-releases

For each version: documents by what became of them, texts embedded, chunk texts that the collection did not hold, what an
unchanged run does, whether both exports are equal (texts, spans and metadata exactly, vectors to 1e-3 cosine), whether any
deleted page is left, and recall@5 of the series' known items in both indexes. The real model is run once for each distinct
text; the index that is built from scratch gets its vectors from a cache, as it counts only what it asks for.
"""

from __future__ import annotations

import argparse
import filecmp
import gzip
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from include.config import Settings
from include.embedding.local import LocalEmbedder
from include.retrieval.searcher import Searcher
from include.store import embedded
from include.store.pool import open_pool
from tests.support import HashEmbedder, assert_same_index, export, index, query

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from include.embedding.embedder import Embedder


class Cached:
    """An embedder that remembers; ``texts`` counts what it was asked for."""

    def __init__(self, inner: Embedder) -> None:
        self._inner, self._vectors, self.texts = inner, {}, 0  # type: ignore[var-annotated]
        self.fingerprint, self.dimension, self.max_tokens = inner.fingerprint, inner.dimension, inner.max_tokens
        self.tokenizer = inner.tokenizer

    def embed_documents(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        """Vectors, computed once for each text."""
        self.texts += len(texts)
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if new:
            self._vectors.update(zip(new, self._inner.embed_documents(new), strict=True))
        if progress:
            progress(len(texts))
        return np.array([self._vectors[text] for text in texts], dtype=np.float32).reshape(len(texts), self.dimension)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """One vector, computed once."""
        if text not in self._vectors:
            self._vectors[text] = self._inner.embed_query(text)
        vector: NDArray[np.float32] = self._vectors[text]
        return vector


def main() -> None:
    """Run and print a line a version, then the sums."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=Path, required=True, help="a folder with materialize.py and vNN.tar.gz")
    parser.add_argument("--versions", type=int, default=1000)
    parser.add_argument("--embedder", choices=("minilm", "hash"), default="minilm")
    args = parser.parse_args()
    model = Cached(LocalEmbedder("all-MiniLM-L6-v2") if args.embedder == "minilm" else HashEmbedder())
    items = _known_items(args.series) if args.embedder == "minilm" else []
    total = len((args.series / "manifest.jsonl").read_text().splitlines())
    with tempfile.TemporaryDirectory() as folder:
        settings = _settings(Path(folder))
        try:
            lines = []
            for number in range(min(args.versions, total)):
                materialize(args.series, f"v{number:02}", Path(folder) / "documents")
                lines.append(_version(settings, number, model, items))
                print(json.dumps(lines[-1]), flush=True)
        finally:
            embedded.stop(settings.home)
    embedded_texts, new = (sum(line[key] for line in lines) for key in ("embedded", "not_held"))
    print(json.dumps({
        "versions": len(lines), "embedded": embedded_texts, "not_held": new, "ratio": round(embedded_texts / max(new, 1), 4),
        "from_scratch_embedded": sum(line["from_scratch_embedded"] for line in lines),
        "unchanged_embedded": sum(line["unchanged_run"]["embedded"] for line in lines),
        "unchanged_written": sum(line["unchanged_run"]["written"] for line in lines),
    }))  # fmt: skip


def _version(settings: Settings, number: int, model: Cached, items: list[dict[str, Any]]) -> dict[str, Any]:
    held = _held(settings)
    started = time.monotonic()
    before = model.texts
    step = index(settings, "incremental", embedder=model, allow_deletes=True)
    seconds = time.monotonic() - started
    asked = model.texts - before
    again = index(settings, "incremental", embedder=model)
    index(settings, "scratch", embedder=model, mode="rebuild", allow_deletes=True)
    built, wanted = export(settings, "incremental"), export(settings, "scratch")
    assert_same_index(built, wanted)
    texts = {row["text"] for row in built}
    return {
        "version": number,
        "plan": step["plan"],
        "reads": step["reads"],
        "chunks": step["chunks"]["total"],
        "embedded": step["chunks"]["embedded"],
        "asked_of_the_model": asked,  # canary strings too
        "not_held": len(texts - held),
        "seconds": round(seconds, 1),
        "from_scratch_embedded": len(texts),  # `mode="rebuild"` embeds what is new for the live index too
        "unchanged_run": {k: again["chunks"][k] for k in ("embedded", "written", "deleted")}
        | {"read": again["reads"], "seconds": again["seconds"]},
        "equal": True,
        "recall@5": {name: _recall(settings, name, number, model, items) for name in ("incremental", "scratch")},
    }


def _held(settings: Settings) -> set[str]:
    """Chunk texts in any generation of the collection."""
    try:
        return {row["text"] for row in export(settings, "incremental")} | _retired_texts(settings)
    except Exception as error:  # nothing was indexed yet
        if "no index yet" not in str(error):
            raise
        return set()


def _retired_texts(settings: Settings) -> set[str]:
    texts: set[str] = set()
    for (generation,) in query(settings, "select g.id from ragworks.generation g join ragworks.collection c"
                               " on c.id = g.collection_id where c.name = 'incremental' and g.state = 'retired'"):  # fmt: skip
        texts |= {row[0] for row in query(settings, f"select substr(t.text, s.start_char + 1, s.end_char - s.start_char)"
                  f" from ragworks.spans_{generation} s join ragworks.generation_document g on g.document_id = s.document_id"
                  f" and g.generation_id = {generation} join ragworks.document_text t using (content_hash)")}  # fmt: skip
    return texts


def _recall(settings: Settings, name: str, number: int, model: Cached, items: list[dict[str, Any]]) -> float | None:
    """Share of the items of this version whose page is among the first five."""
    found = []
    with open_pool(settings) as pool:
        searcher = Searcher(settings, pool, name, embedder=model)
        for item in items:
            pages = {
                interval["path"] for interval in item["intervals"] if interval["from"] <= f"v{number:02}" <= interval["to"]
            }
            if pages:
                shown = {uri for uri, _ in searcher.documents(item["text"], top_k=5)}
                found.append(bool(pages & shown))
    return round(sum(found) / len(found), 4) if found else None


def _known_items(series: Path) -> list[dict[str, Any]]:
    with gzip.open(series / "known_items.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def materialize(series: Path, version: str, folder: Path) -> None:
    """Bring the folder to a version, touching only what differs, as a checkout does."""
    fresh = folder.with_name("fresh")
    shutil.rmtree(fresh, ignore_errors=True)
    subprocess.run([sys.executable, str(series / "materialize.py"), version, str(fresh)], check=True, capture_output=True)
    folder.mkdir(exist_ok=True)
    wanted = {p.relative_to(fresh) for p in fresh.rglob("*") if p.is_file()}
    for gone in [p for p in folder.rglob("*") if p.is_file() and p.relative_to(folder) not in wanted]:
        gone.unlink()
    for relative in wanted:
        target = folder / relative
        if not target.exists() or not filecmp.cmp(fresh / relative, target, shallow=False):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(fresh / relative, target)


def _settings(folder: Path) -> Settings:
    collections = folder / "collections"
    collections.mkdir()
    for name in ("incremental", "scratch"):
        source = {"type": "files", "path": str(folder / "documents"), "glob": "**/*.md"}
        content = {"name": name, "source": source, "validation": {"max_deleted": 1.0}}
        (collections / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return Settings(home=folder / "home", collections_dir=collections)


if __name__ == "__main__":
    main()

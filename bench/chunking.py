"""Which chunker: speed, fill, retrieval of exact answer spans, and how many chunks an edit changes.

    python -m bench.chunking --parts speed stability retrieval --json bench/results/chunking.json

The peers are measured when they are installed: semantic-text-splitter, langchain-text-splitters. Retrieval embeds about
10,000 chunks (ten minutes on two cores); vectors are kept in ``--cache``. Results: docs/decisions/0002-chunking.md.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bench.chunk_edits import edit_experiment, history
from include.collection_file import Chunking
from include.embedding.local import LocalEmbedder
from include.indexing.chunking import chunk_document

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenizers import Tokenizer

Split = list[tuple[int, str]]  # where a chunk starts, its text
BUDGET = 1000  # tokens of context at which recall is compared between chunk sizes
HISTORIES = (("diffusers-releases", "v15", "v16"), ("diffusers-commits", "v00", "v24"))


class Splitter(NamedTuple):
    """One configuration: a name, a limit in tokens and the function that cuts."""

    name: str
    limit: int
    split: Callable[[str], Split]


def splitters(tokenizer: Tokenizer) -> list[Splitter]:
    """Ours at several sizes, then the peers that are installed."""

    def ours(limit: int) -> Splitter:
        settings = Chunking(max_tokens=limit)
        return Splitter(
            f"ragworks {limit}", limit, lambda text: [(c.start, c.text) for c in chunk_document(text, tokenizer, settings)]
        )

    found = [ours(120), ours(200), ours(250)]
    if find_spec("semantic_text_splitter"):
        from semantic_text_splitter import MarkdownSplitter, TextSplitter

        for kind in (MarkdownSplitter, TextSplitter):
            cut = kind.from_huggingface_tokenizer(tokenizer, 200).chunk_indices
            found.append(Splitter(f"semantic-text-splitter {kind.__name__} 200", 200, cut))
    if find_spec("langchain_text_splitters"):
        found.append(Splitter("langchain RecursiveCharacter 200", 200, _langchain(tokenizer, 200)))
    return found


def _langchain(tokenizer: Tokenizer, limit: int) -> Callable[[str], Split]:
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    splitter = RecursiveCharacterTextSplitter(
        chunk_size=limit,
        chunk_overlap=0,
        add_start_index=True,
        length_function=lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids),
    )
    return lambda text: [(d.metadata["start_index"], d.page_content) for d in splitter.create_documents([text])]


def speed(splitter: Splitter, texts: list[str], tokenizer: Tokenizer) -> dict[str, Any]:
    """Megabytes a second on one core, mean share of the limit that is used, whether spans are exact, longest chunk."""
    best = float("inf")
    for _ in range(2):
        begin = time.perf_counter()
        pieces = [splitter.split(text) for text in texts]
        best = min(best, time.perf_counter() - begin)
    sizes = [len(e.ids) for p in pieces for e in tokenizer.encode_batch([t for _, t in p], add_special_tokens=False)]
    exact = all(text[at : at + len(t)] == t for text, found in zip(texts, pieces, strict=True) for at, t in found)
    covered = all(
        sum(len("".join(t.split())) for _, t in found) == len("".join(text.split()))
        for text, found in zip(texts, pieces, strict=True)
    )
    return {
        "MB/s": sum(len(t.encode()) for t in texts) / best / 1e6,
        "chunks": len(sizes),
        "fill": sum(sizes) / len(sizes) / splitter.limit,
        "longest": max(sizes),
        "exact": exact,
        "complete": covered,
    }


def retrieval(splitter: Splitter, data: Path, embedder: LocalEmbedder, cache: Path) -> dict[str, float]:
    """Character recall, precision and IoU of the top 5 and 10 (Chroma, "Evaluating Chunking Strategies", 2024)."""
    documents, queries, spans = (_rows(data / f"{name}.jsonl.gz") for name in ("documents", "queries", "spans"))
    wanted: dict[str, list[tuple[str, int, int]]] = {}
    for span in spans:
        wanted.setdefault(span["query_id"], []).append((span["doc_id"], span["start"], span["end"]))
    chunks = [(d["id"], at, at + len(t), t) for d in documents for at, t in splitter.split(d["text"])]
    counts = np.array([len(e.ids) for e in embedder.tokenizer.encode_batch([c[3] for c in chunks], add_special_tokens=False)])
    queries = [q for q in queries if q["id"] in wanted]
    vectors = _vectors([c[3] for c in chunks], embedder, cache)
    questions = _vectors([q["text"] for q in queries], embedder, cache)
    rows: list[dict[str, float]] = []
    for query, order in zip(queries, np.argsort(-(questions @ vectors.T), axis=1, kind="stable"), strict=True):
        row: dict[str, float] = {}
        for k in (5, 10):
            top = [chunks[i][:3] for i in order[:k]]
            row |= {f"{key}@{k}": value for key, value in _overlap(wanted[query["id"]], top).items()}
            row[f"tokens@{k}"] = float(counts[order[:k]].sum())
        affordable = int(np.searchsorted(np.cumsum(counts[order[:100]]), BUDGET, side="right"))
        row[f"recall@{BUDGET}tokens"] = _overlap(wanted[query["id"]], [chunks[i][:3] for i in order[:affordable]])["recall"]
        rows.append(row)
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def _overlap(wanted: list[tuple[str, int, int]], found: list[tuple[str, int, int]]) -> dict[str, float]:
    need = {(d, i) for d, start, end in wanted for i in range(start, end)}
    have = {(d, i) for d, start, end in found for i in range(start, end)}
    both = len(need & have)
    return {"recall": both / len(need), "precision": both / max(1, len(have)), "iou": both / len(need | have)}


def _vectors(texts: list[str], embedder: LocalEmbedder, cache: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / (hashlib.blake2b("\0".join([embedder.fingerprint, *texts]).encode(), digest_size=16).hexdigest() + ".npy")
    if not path.exists():
        np.save(path, embedder.embed_documents(texts))
    return np.load(path)


def stability(splitter: Splitter, data: Path, trees: Path, paragraphs: int) -> dict[str, Any]:
    """New chunk texts in real histories against the fewest possible, and the edit of each paragraph in turn."""
    result: dict[str, Any] = {}
    for series, before, after in HISTORIES:
        old, new = (_tree(data / "docs-history" / series, version, trees) for version in (before, after))
        result[f"{series} {before}→{after}"] = history(splitter.split, old, new)
    texts = {d["id"]: d["text"] for d in _rows(data / "chunking-eval" / "documents.jsonl.gz")}
    pages = _tree(data / "docs-history" / "diffusers-releases", "v15", trees)
    markdown = "\n\n".join(pages[p] for p in sorted(pages) if "/en/using-diffusers/" in p)
    long = {"papers": texts["pubmed"], "speech": texts["state_of_the_union"], "register": _register(), "markdown": markdown}
    for name, text in long.items():
        result[f"edit {name}"] = edit_experiment(splitter.split, text, 200, paragraphs)
    return result


def _register() -> str:
    """Short entries, one a paragraph, with no heading: where packing from the top shifts most."""
    chance = random.Random(2)
    words = ["index", "vector", "document", "chunk", "query", "model", "search", "table", "column", "server", "client"]
    return "\n\n".join(f"Entry {i}: {' '.join(chance.choices(words, k=chance.randint(3, 14)))}." for i in range(2600))


def _tree(series: Path, version: str, trees: Path) -> dict[str, str]:
    folder = trees / f"{series.name}-{version}"
    if not folder.exists():
        subprocess.run([sys.executable, str(series / "materialize.py"), version, str(folder)], check=True, stdout=sys.stderr)
    return {p.relative_to(folder).as_posix(): p.read_text(encoding="utf-8") for p in sorted(folder.rglob("*.md"))}


def _rows(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def main() -> None:
    """Measure the parts that are asked for and print one block a splitter."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with chunking-eval and docs-history")
    parser.add_argument("--parts", nargs="+", choices=("speed", "stability", "retrieval"), default=["speed", "stability"])
    parser.add_argument("--only", default="", help="measure only splitters whose name contains this")
    parser.add_argument("--paragraphs", type=int, default=40, help="edited in the 200-chunk experiment, spread evenly")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "ragworks-bench-chunking")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    data, embedder = arguments.data, LocalEmbedder("all-MiniLM-L6-v2")
    trees = arguments.cache / "trees"
    trees.mkdir(parents=True, exist_ok=True)
    prose = [d["text"] for d in _rows(data / "chunking-eval" / "documents.jsonl.gz")]
    pages = list(_tree(data / "docs-history" / "diffusers-releases", "v15", trees).values())
    report: dict[str, dict[str, Any]] = {}
    for splitter in splitters(embedder.tokenizer):
        if arguments.only not in splitter.name:
            continue
        figures = report.setdefault(splitter.name, {})
        if "speed" in arguments.parts:
            figures["prose"] = speed(splitter, prose, embedder.tokenizer)
            figures["markdown"] = speed(splitter, pages, embedder.tokenizer)
        if "stability" in arguments.parts:
            figures |= stability(splitter, data, trees, arguments.paragraphs)
        if "retrieval" in arguments.parts:
            figures["retrieval"] = retrieval(splitter, data / "chunking-eval", embedder, arguments.cache)
        show(splitter.name, figures)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")


def show(name: str, figures: dict[str, Any]) -> None:
    """One line a group of figures."""
    print(name)
    for group, values in figures.items():
        line = "  ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items())
        print(f"  {group}: {line}", flush=True)


if __name__ == "__main__":
    main()

"""How fast a reranker reads on this machine, and whether the second stage keeps to its latency budget under load.

    python -m bench.reranking [--model FOLDER | --model forest] [--budget 500]

Chunks of 200 tokens from docs/ are read with questions that are their headings. First `score` alone, for 1 and 4 clients:
pairs a second, the percentiles of a search, and the processor time, which other work on the machine hardly changes. Then the
whole second stage with its budget, on a database of its own, where the number of candidates follows the load. Without
--model a head of random weights is put on the packaged encoder, and `forest` grows 300 trees on labels of chance: as fast as
trained ones, and of no use for ranking. Takes about three minutes.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from include.collection_file import Chunking, Retrieval
from include.config import PROJECT_ROOT, Settings
from include.embedding import models
from include.embedding.local import LocalEmbedder
from include.indexing.chunking import chunk_document
from include.lexical.vocabulary import vocabulary_of
from include.retrieval.pair_features import FEATURES
from include.retrieval.rerank import open_reranker
from include.retrieval.stage import second_stage, warm
from include.store import embedded
from include.store.pool import open_pool
from include.store.search import Hit
from include.training import forest
from include.training.arguments import RerankerArguments

if TYPE_CHECKING:
    from collections.abc import Callable

    from include.retrieval.rerank import Reranker

FIRST_STAGE = 0.02  # seconds: a short question embedded and searched for
PAUSE = 0.25  # seconds a client reads what it was shown: 4 clients are 5 to 15 searches a second


def main() -> None:
    """Run and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder or hub name, or forest; default: a new head on the packaged encoder")
    parser.add_argument("--seconds", type=float, default=12, help="for each line of a table")
    parser.add_argument("--candidates", type=int, nargs="+", default=[5, 10, 20, 50])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--budget", type=int, default=500, help="retrieval.latency_budget_ms")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        reranker = opened(args.model, Path(folder) / "reranker")
        warm(reranker)
        questions, texts = pairs()
        print(f"{reranker.name}: {len(texts)} chunks\n")
        print("| clients | candidates | searches | pairs/s | CPU ms a pair | mean s | p50 s | p95 s | p99 s | p95 / mean |")
        print("|---" * 10 + "|")
        for clients, count in itertools.product(args.clients, args.candidates):
            started, worked = time.monotonic(), time.process_time()
            taken = load(partial(score_once, reranker, questions, texts, count), clients, args.seconds)
            speed = len(taken) * count / (time.monotonic() - started)
            cost = 1000 * (time.process_time() - worked) / (len(taken) * count)
            print(f"| {clients} | {count} | {len(taken)} | {speed:.1f} | {cost:.2g} | {percentiles(taken)} |", flush=True)
        budgeted(reranker, questions, texts, args, Path(folder) / "postgres")


def opened(model: str | None, folder: Path) -> Reranker:
    """What is measured."""
    if model == "forest":
        of_chance(folder)
    elif model is None:
        with_new_head(folder)
    else:
        folder = Path(model)
    reranker = open_reranker(str(folder), Settings())
    if reranker is None:
        raise SystemExit(f"{model} is no reranker")
    return reranker


def of_chance(folder: Path) -> None:
    """A forest that learned 10,000 labels of chance, so that its trees are as deep as they may be."""
    draw = np.random.default_rng(0)
    rows = draw.random((10_000, len(FEATURES))).astype(np.float32)
    learned = forest.Examples(rows, (draw.random(len(rows)) < 0.1).astype(np.float64), np.ones(len(rows)))
    forest.save(forest.grow(learned, RerankerArguments(kind="forest"), jobs=-1), vocabulary_of("english", pairs()[1]), folder)
    (folder / "ragworks.json").write_text('{"kind": "forest"}')


def with_new_head(folder: Path) -> None:
    """A cross-encoder from the packaged encoder, with a head of random weights."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    source = models.find_model("all-MiniLM-L6-v2")
    AutoModelForSequenceClassification.from_pretrained(source, num_labels=1).save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)


def pairs() -> tuple[list[str], list[str]]:
    """Questions and chunks of this project's documentation."""
    tokenizer = LocalEmbedder("all-MiniLM-L6-v2").tokenizer
    pages = [page.read_text() for page in sorted((PROJECT_ROOT / "docs").glob("*.md"))]
    chunks = [chunk for page in pages for chunk in chunk_document(page, tokenizer, Chunking())]
    headings = [line.strip("# ") for page in pages for line in page.splitlines() if line.startswith("#")]
    return headings, [chunk.text for chunk in chunks]


def score_once(reranker: Reranker, questions: list[str], texts: list[str], count: int, n: int) -> None:
    """One search's reading, other texts each time."""
    reranker.score(questions[n % len(questions)], [texts[(n * 31 + i) % len(texts)] for i in range(count)])


def load(work: Callable[[int], object], clients: int, seconds: float, pause: float = 0.0) -> list[float]:
    """Seconds of each call while so many clients call, with a pause in between."""
    until, taken, numbers = time.monotonic() + seconds, list[float](), itertools.count()

    def client() -> None:
        while (started := time.monotonic()) < until:
            work(next(numbers))
            taken.append(time.monotonic() - started)
            time.sleep(pause)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return taken


def percentiles(taken: list[float]) -> str:
    """Mean, p50, p95, p99, and how far the 95th percentile is above the mean."""
    mean, (p50, p95, p99) = float(np.mean(taken)), np.percentile(taken, [50, 95, 99])
    return f"{mean:.3f} | {p50:.3f} | {p95:.3f} | {p99:.3f} | {p95 / mean:.2f}"


def budgeted(reranker: Reranker, questions: list[str], texts: list[str], args: argparse.Namespace, home: Path) -> None:
    """The second stage as a search runs it, with the first stage's time counted in."""
    retrieval = Retrieval(latency_budget_ms=args.budget)
    print(f"\nbudget {args.budget} ms, the first stage's {FIRST_STAGE * 1000:.0f} ms included; clients pause {PAUSE} s\n")
    print("| clients | searches | without second stage | candidates, mean | mean s | p50 s | p95 s | p99 s | p95 / mean |")
    print("|---" * 9 + "|")
    try:
        with open_pool(Settings(home=home), max_size=8) as pool:
            for clients in args.clients:
                read: list[int] = []

                def search(n: int, read: list[int] = read) -> None:
                    chosen = [texts[(n * 31 + i) % len(texts)] for i in range(retrieval.rerank_candidates)]
                    hits = [Hit("d", i, 0, len(t), t, 1 - i / 100, {}) for i, t in enumerate(chosen)]
                    question = questions[n % len(questions)]
                    _, part, _ = second_stage(question, hits, retrieval, reranker, pool, FIRST_STAGE, 10)
                    read.append(part["reranker"]["candidates"])

                load(search, clients, args.seconds / 2, PAUSE)  # the rate settles
                read.clear()
                taken = [FIRST_STAGE + seconds for seconds in load(search, clients, 2 * args.seconds, PAUSE)]
                left_out = sum(count == 0 for count in read)
                print(f"| {clients} | {len(taken)} | {left_out} | {np.mean(read):.1f} | {percentiles(taken)} |", flush=True)
    finally:
        embedded.stop(home)


if __name__ == "__main__":
    main()

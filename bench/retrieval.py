"""Retrieval quality on judged collections: each way of searching beside its limit or its peer, over the same chunks.

    python -m bench.retrieval --data ../shared/data --home /tmp/library --out docs/benchmarks/retrieval.json

For each collection (indexed with the real model by the pipeline; again nothing is embedded): nDCG@10 of documents ranked by
their best chunk, for dense search and an exact scan of the same vectors, for lexical search and bm25s (Lucene's formula,
Porter 2 stems, the same k1 and b) over the same texts, for hybrid search as served. Then rules of fusion: the weight is fitted
on one half of the queries and scored on the other, both ways. Prints the tables; --out keeps them with the figures.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from bench.workload.library import COLLECTIONS, build, collection_name, settings_of
from include.collection_file import Retrieval
from include.embedding.local import LocalEmbedder
from include.evaluation.judgements import read_qrels, read_queries
from include.lexical import bm25
from include.retrieval.fusion import fuse
from include.retrieval.searcher import Searcher
from include.store import generations
from include.store.pool import open_pool
from tests.support import export

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from include.config import Settings
    from include.store.pool import Pool

    Scores = NDArray[np.float64]

PLACES, POOL = 10, Retrieval().candidates
WEIGHTS = [round(0.05 * i, 2) for i in range(21)]


class Remembering:
    """The embedder of queries, each embedded once."""

    def __init__(self) -> None:
        self._inner, self._known = LocalEmbedder("all-MiniLM-L6-v2"), {}  # type: ignore[var-annotated]
        self.fingerprint, self.dimension, self.max_tokens = self._inner.fingerprint, self._inner.dimension, None
        self.tokenizer = self._inner.tokenizer

    def learn(self, texts: Sequence[str]) -> None:
        """Embed what is new together."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self._inner.embed_documents(new), strict=True))

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """A vector that was learnt."""
        vector: NDArray[np.float32] = self._known[text]
        return vector


@dataclass(frozen=True)
class Judged:
    """A collection's chunks and its questions."""

    documents: NDArray[np.int64]  # of each chunk
    uris: list[str]
    texts: list[str]
    vectors: NDArray[np.float32]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]
    weights: bm25.BM25

    @cached_property
    def terms(self) -> tuple[sparse.csr_matrix, dict[int, int], dict[int, int]]:
        """Weights of chunks by term; column of each term; chunks that have it."""
        columns: dict[int, int] = {}
        data, indices, starts = [], [], [0]
        for text in self.texts:
            for term, weight in self.weights.chunk(text).items():
                indices.append(columns.setdefault(term, len(columns)))
                data.append(weight)
            starts.append(len(data))
        matrix = sparse.csr_matrix((data, indices, starts), shape=(len(self.texts), len(columns)))
        counts = np.bincount(indices, minlength=len(columns))
        return matrix, columns, {term: int(counts[column]) for term, column in columns.items()}

    def lexical(self, query: str) -> Scores:
        """BM25 of every chunk."""
        matrix, columns, chunks_with = self.terms
        wanted = self.weights.query(self.weights.analyzer.terms(query), chunks_with, len(self.texts))
        vector = np.zeros(len(columns))
        vector[[columns[term] for term in wanted]] = list(wanted.values())
        scores: Scores = matrix @ vector
        return scores

    def ranking(self, scores: Scores, chunks: NDArray[np.int64]) -> list[str]:
        """Documents by their best chunk."""
        order = chunks[np.argsort(-scores, kind="stable")]
        return list(dict.fromkeys(self.uris[self.documents[c]] for c in order))[:PLACES]

    def ndcg(self, rankings: dict[str, list[str]]) -> dict[str, float]:
        """nDCG@10 of each query, linear gain as trec_eval's."""
        return {query: _ndcg(rankings[query], self.qrels[query]) for query in rankings}


def _ndcg(ranking: Sequence[str], grades: dict[str, int]) -> float:
    gained = sum(grades.get(d, 0) / np.log2(i + 2) for i, d in enumerate(ranking))
    ideal = sum(g / np.log2(i + 2) for i, g in enumerate(sorted(grades.values(), reverse=True)[:PLACES]))
    return float(gained / ideal) if ideal else 0.0


def main() -> None:
    """Index, ask, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--collections", nargs="+", default=list(COLLECTIONS))
    parser.add_argument("--max-tokens", type=int, default=200)
    parser.add_argument("--out", type=Path, help="json for the figures; a table beside it")
    args = parser.parse_args()
    settings, embedder, rows = settings_of(args.home), Remembering(), []
    for folder in args.collections:
        path = args.data / folder / "corpus.jsonl.gz"
        build(settings, collection_name(folder), path.parent, path.name, max_tokens=args.max_tokens)
        rows.append(_measure(settings, folder, args.data / folder, embedder))
        print(json.dumps(rows[-1]), flush=True)
    table = _table(rows)
    print(table)
    if args.out:
        args.out.write_text(json.dumps({"machine": platform.platform(), "collections": rows}, indent=1) + "\n")
        args.out.with_suffix(".md").write_text(table)


def _measure(settings: Settings, folder: str, data: Path, embedder: Remembering) -> dict[str, Any]:
    name = collection_name(folder)
    with open_pool(settings) as pool:
        judged = _load(settings, pool, name, data)
        embedder.learn(list(judged.queries.values()))
        searcher = Searcher(settings, pool, name, embedder=embedder)  # type: ignore[arg-type]
        row: dict[str, Any] = {"collection": folder, "documents": len(judged.uris), "chunks": len(judged.texts)}
        row["queries"] = len(judged.queries)
        for mode in ("dense", "lexical", "hybrid"):
            started = time.monotonic()
            found = {q: [d for d, _ in searcher.documents(t, top_k=PLACES, mode=mode)] for q, t in judged.queries.items()}  # type: ignore[arg-type]
            row[mode] = _mean(judged.ndcg(found).values())
            row[f"{mode}_ms"] = round((time.monotonic() - started) / len(found) * 1000, 1)
    exact, every = {}, np.arange(len(judged.texts))
    scored = {q: (_dense(judged, embedder, t), judged.lexical(t)) for q, t in judged.queries.items()}
    for query, (dense, _) in scored.items():
        exact[query] = judged.ranking(dense, every)
    row["dense_exact"] = _mean(judged.ndcg(exact).values())
    row["bm25s"] = _mean(judged.ndcg(_bm25s(judged)).values())
    row["bm25s_terms"] = _mean(judged.ndcg(_bm25s_terms(judged)).values())
    row["fusion"] = _fusions(judged, scored)
    return row


def _load(settings: Settings, pool: Pool, name: str, data: Path) -> Judged:
    rows = export(settings, name)
    uris = list(dict.fromkeys(row["document"] for row in rows))
    number = {uri: i for i, uri in enumerate(uris)}
    qrels = {q: {d: g for d, g in grades.items() if g > 0} for q, grades in read_qrels(str(data / "qrels.tsv")).items()}
    queries = {q: t for q, t in read_queries(str(data / "queries.jsonl.gz")).items() if qrels.get(q)}
    with pool.connection() as connection:
        weights = bm25.recorded(generations.live_of(connection, name).spec)
    if weights is None:
        raise SystemExit(f"{name} has no lexical index")
    vectors = np.array([row["embedding"] for row in rows], dtype=np.float32)
    of = np.array([number[row["document"]] for row in rows])
    return Judged(of, uris, [row["text"] for row in rows], vectors, queries, qrels, weights)


def _dense(judged: Judged, embedder: Remembering, text: str) -> Scores:
    vector = embedder.embed_query(text).astype(np.float16).astype(np.float32)
    scores: Scores = (judged.vectors @ vector).astype(np.float64)
    return scores


def _bm25s(judged: Judged) -> dict[str, list[str]]:
    import bm25s
    import Stemmer

    tokenizer = bm25s.tokenization.Tokenizer(stemmer=Stemmer.Stemmer("english"), stopwords="en")
    chunks = tokenizer.tokenize(judged.texts, show_progress=False, update_vocab=True)
    peer = bm25s.BM25(method="lucene", k1=judged.weights.k1, b=judged.weights.b)
    peer.index((chunks, tokenizer.get_vocab_dict()), show_progress=False)
    questions = tokenizer.tokenize(list(judged.queries.values()), show_progress=False, update_vocab=False)
    return _retrieved(judged, peer, questions)


def _bm25s_terms(judged: Judged) -> dict[str, list[str]]:
    """The same peer over the terms of the lexical index instead of its own words."""
    import bm25s

    cut = judged.weights.analyzer.terms
    peer = bm25s.BM25(method="lucene", k1=judged.weights.k1, b=judged.weights.b)
    peer.index([[str(t) for t in cut(text).elements()] for text in judged.texts], show_progress=False)
    return _retrieved(judged, peer, [[str(t) for t in cut(text).elements()] for text in judged.queries.values()])


def _retrieved(judged: Judged, peer: Any, questions: Any) -> dict[str, list[str]]:
    found, scores = peer.retrieve(questions, k=min(300, len(judged.texts)), show_progress=False)
    return {q: judged.ranking(s.astype(np.float64), c) for q, c, s in zip(judged.queries, found, scores, strict=True)}


# Rules of fusion: scores of a pool of chunks (both of all of it), their ranks in the two orders, the weight → scores.


def _spread(scores: Scores, low: float) -> Scores:
    """From 0 at ``low`` to 1 at the best."""
    spread: Scores = (scores - low) / ((scores.max() - low) or 1.0)
    return spread


def _listed(scores: Scores, ranks: Scores) -> Scores:
    """Min-max over a way's own list, 0 for what is not in it."""
    own = scores[ranks < POOL]
    return np.clip(_spread(scores, own.min()), 0, 1) if len(own) else np.zeros_like(scores)


RULES: dict[str, Callable[[Scores, Scores, Scores, Scores, float], Scores]] = {
    "standard scores of the candidates (served)": lambda d, s, rd, rs, w: fuse(d, s, w, POOL),
    "min-max of the candidates": lambda d, s, rd, rs, w: w * _spread(d, d.min()) + (1 - w) * _spread(s, s.min()),
    "min-max of each list": lambda d, s, rd, rs, w: w * _listed(d, rd) + (1 - w) * _listed(s, rs),
    "theoretical minimum (TM2C2)": lambda d, s, rd, rs, w: w * _spread(d, -1.0) + (1 - w) * _spread(s, 0.0),
    "reciprocal rank 60, weighted": lambda d, s, rd, rs, w: (
        w * np.where(rd < POOL, 1 / (61 + rd), 0) + (1 - w) * np.where(rs < POOL, 1 / (61 + rs), 0)
    ),
}


def _fusions(judged: Judged, scored: dict[str, tuple[Scores, Scores]]) -> dict[str, Any]:
    """For each rule: nDCG@10 with the default weight, and with the weight fitted on the other half; the curve over weights."""
    queries = list(scored)
    draw = np.random.default_rng(0).permutation(len(queries))
    halves = (draw[::2], draw[1::2])
    values = {rule: np.zeros((len(WEIGHTS), len(queries))) for rule in RULES}
    for column, query in enumerate(queries):
        dense, lexical = scored[query]
        pool, rank_d, rank_s = _pool(dense, lexical)
        for rule, score in RULES.items():
            for row, weight in enumerate(WEIGHTS):
                total = score(dense[pool], lexical[pool], rank_d, rank_s, weight)
                values[rule][row, column] = _ndcg(judged.ranking(total, pool), judged.qrels[query])
    found = {}
    for rule, of in values.items():
        fitted = np.concatenate([of[int(of[:, a].mean(axis=1).argmax()), b] for a, b in (halves, halves[::-1])])
        even = of[WEIGHTS.index(Retrieval().dense_weight)].mean()
        curve = [round(float(v), 4) for v in of.mean(axis=1)]
        found[rule] = {"default": round(float(even), 4), "fitted": round(float(fitted.mean()), 4), "curve": curve}
    return found


def _pool(dense: Scores, lexical: Scores) -> tuple[NDArray[np.int64], Scores, Scores]:
    """The best of both, and each one's rank in the two orders."""
    count = min(POOL, len(dense))
    best_d, best_s = (np.argsort(-scores, kind="stable")[:count] for scores in (dense, lexical))
    best_s = best_s[lexical[best_s] > 0]
    pool = np.union1d(best_d, best_s)
    ranks = []
    for best in (best_d, best_s):
        place = {int(chunk): i for i, chunk in enumerate(best)}
        ranks.append(np.array([place.get(int(chunk), 10**6) for chunk in pool], dtype=np.float64))
    return pool, ranks[0], ranks[1]


def _mean(values: Iterable[float]) -> float:
    return round(float(np.mean(list(values))), 4)


def _table(rows: Sequence[dict[str, Any]]) -> str:
    columns = ("dense", "dense_exact", "lexical", "bm25s_terms", "bm25s", "hybrid")
    lines = [
        "| collection | documents | chunks | queries | dense | exact scan | lexical | bm25s, same terms | bm25s | hybrid |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {r['collection']} | {r['documents']:,} | {r['chunks']:,} | {r['queries']:,} | "
            + " | ".join(f"{r[c]:.4f}" for c in columns)
            + " |"
            for r in rows
        ),
        "",
        "| rule of fusion (dense weight 0.55, the default / fitted on the other half) | "
        + " | ".join(r["collection"] for r in rows)
        + " | mean |",
        "|---|" + "---|" * (len(rows) + 1),
    ]
    for rule in RULES:
        of = [r["fusion"][rule] for r in rows]
        mean = f"{_mean(f['default'] for f in of):.4f} / {_mean(f['fitted'] for f in of):.4f}"
        lines.append(f"| {rule} | " + " | ".join(f"{f['default']:.3f} / {f['fitted']:.3f}" for f in of) + f" | {mean} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

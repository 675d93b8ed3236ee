"""Dense search through the index against exact cosine search in numpy over the same chunk texts, embedded again outside it.

    python -m bench.dense_exact NAME --queries ../shared/data/scifact/queries.jsonl.gz --qrels ../shared/data/scifact/qrels.tsv

NAME is an indexed collection. Prints nDCG@10 of both and the difference; the project promises at most 0.005.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

import numpy as np

from include.embedding.local import LocalEmbedder
from include.evaluation.evaluate import score
from include.evaluation.judgements import read_qrels, read_queries


def main() -> None:
    """Run and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--queries", required=True)
    parser.add_argument("--qrels", required=True)
    args = parser.parse_args()
    ours = json.loads(_ragworks("evaluate", args.name, "--queries", args.queries, "--qrels", args.qrels, "--json"))
    exported = [json.loads(line) for line in _ragworks("export", args.name).splitlines()]
    exact = exact_ndcg(exported, args.queries, args.qrels)
    print(json.dumps({"index": ours, "exact": exact, "difference": round(ours["ndcg@10"] - exact["ndcg@10"], 4)}, indent=2))


def exact_ndcg(exported: list[dict[str, object]], queries_path: str, qrels_path: str) -> dict[str, float]:
    """Embed the exported texts and the queries anew, rank documents by their best chunk with one matrix product."""
    queries, qrels = read_queries(queries_path), read_qrels(qrels_path)
    judged = [q for q in queries if any(g > 0 for g in qrels.get(q, {}).values())]
    embedder = LocalEmbedder("all-MiniLM-L6-v2")
    chunks = embedder.embed_documents([str(row["text"]) for row in exported])
    questions = np.array([embedder.embed_query(queries[q]) for q in judged])
    uris = np.array([str(row["document"]) for row in exported])
    rankings = {}
    for query, similarities in zip(judged, questions @ chunks.T, strict=True):
        best: dict[str, float] = {}
        for position in np.argsort(-similarities, kind="stable"):
            best.setdefault(str(uris[position]), float(similarities[position]))
            if len(best) == 10:
                break
        rankings[query] = list(best.items())
    return score(rankings, qrels, 10)


def _ragworks(*arguments: str) -> str:
    return subprocess.run([sys.executable, "-m", "include", *arguments], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()

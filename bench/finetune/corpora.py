"""Collections with training questions and others that judge, cut to what two cores embed in a few minutes."""

from __future__ import annotations

import csv
import functools
import gzip
import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import Tokenizer

SEED = 1


@dataclass(frozen=True)
class Corpus:
    """Files of one collection; paths as text for the command line and the form.

    :param counts: documents, training pairs, golden queries, training pairs whose document also answers a golden query (the
        data step leaves those out).
    """

    name: str
    documents: str
    queries: str
    golden_qrels: str
    train_qrels: str
    counts: dict[str, int]


def cut(data: Path, name: str, folder: Path, *, pairs: int, distractors: int, tokens: int = 0) -> Corpus:
    """Write a collection with so many training pairs, and the documents of all questions and some others.

    :param pairs: 0: all.
    :param distractors: further documents, drawn; -1: the whole corpus.
    :param tokens: of the packaged model, title and text of a document together; the rest is left out. 0: all of it.
    """
    source = data / name
    folder.mkdir(parents=True, exist_ok=True)
    train, golden = _qrels(source / "qrels.train.tsv"), _qrels(source / "qrels.tsv")
    random.Random(SEED).shuffle(train)
    train = train[:pairs] if pairs else train
    needed = {document for _, document in (*train, *golden)}
    with gzip.open(source / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    others = [row["id"] for row in rows if row["id"] not in needed]
    random.Random(SEED).shuffle(others)
    kept = needed | set(others if distractors < 0 else others[:distractors])
    documents = folder / f"{name}.jsonl"
    with documents.open("w", encoding="utf-8") as file:
        for row in rows:
            if row["id"] in kept:
                file.write(json.dumps(_shortened(row, tokens) if tokens else row, ensure_ascii=False) + "\n")
    _write(folder / "train.tsv", train)
    judged = {document for _, document in golden}
    counts = {
        "documents": len(kept), "train_pairs": len(train), "golden_queries": len({query for query, _ in golden}),
        "train_pairs_of_golden_documents": sum(document in judged for _, document in train),
    }  # fmt: skip
    return Corpus(
        name, str(documents), str(source / "queries.jsonl.gz"), str(source / "qrels.tsv"), str(folder / "train.tsv"), counts
    )


def _shortened(row: dict[str, Any], tokens: int) -> dict[str, Any]:
    """A document that ends with its last whole token of so many."""
    tokenizer = _tokenizer()
    left = tokens - len(tokenizer.encode(row.get("title", ""), add_special_tokens=False).ids)
    offsets = tokenizer.encode(row["text"], add_special_tokens=False).offsets[: max(0, left)]
    return row | {"text": row["text"][: offsets[-1][1] if offsets else 0]}


@functools.cache
def _tokenizer() -> Tokenizer:
    from include.embedding.local import LocalEmbedder

    return LocalEmbedder("all-MiniLM-L6-v2").tokenizer


def _qrels(path: Path) -> list[tuple[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [(row[0], row[1]) for row in list(csv.reader(file, delimiter="\t"))[1:] if float(row[2]) > 0]


def _write(path: Path, pairs: list[tuple[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(("query-id", "corpus-id", "score"))
        writer.writerows((*pair, 1) for pair in pairs)

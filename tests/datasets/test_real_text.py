"""A dataset of real questions and real documents: medical answers, where the developers have them."""

from __future__ import annotations

import csv
import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from include.datasets.build import build_dataset
from include.datasets.check import check_dataset
from include.datasets.options import DatasetOptions
from include.evaluation.golden import read_pair
from include.progress import Silent
from include.store import datasets, golden
from include.store.pool import open_pool
from tests.conftest import write_rows
from tests.support import index

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from include.config import Settings

DOCUMENTS, SHORT = 40, 1200  # judgements of each kind, of documents of so many characters


@pytest.mark.slow
def test_medquad(settings: Settings, documents: Path, collection: Callable[..., str], shared_data: Path) -> None:
    """Judged training questions beside judged golden ones: enough of both is left, nothing leaks, negatives are told apart."""
    medquad = shared_data / "medquad"
    with gzip.open(medquad / "corpus.jsonl.gz", "rt") as lines:
        corpus = {row["id"]: row for line in lines if len((row := json.loads(line))["text"]) < SHORT}
    train, judging = (_some(medquad / name, corpus.keys(), documents) for name in ("qrels.train.tsv", "qrels.tsv"))
    asked, judged = ({document for _, document, _ in _judgements(path)} for path in (train, judging))
    kept: list[Mapping[str, Any]] = [corpus[document] for document in sorted(asked | judged)]
    write_rows(documents / "corpus.jsonl", kept)
    collection(source={"type": "jsonl", "path": str(documents / "corpus.jsonl")})
    index(settings, "handbook")
    queries = str(medquad / "queries.jsonl.gz")
    options = DatasetOptions(queries=queries, qrels=str(train), min_train=20, min_dev=5, negatives=3)
    with open_pool(settings) as pool:
        with pool.connection() as connection:
            golden.save(connection, 1, read_pair(queries, str(judging)))
        made = build_dataset(settings, pool, "handbook", options, progress=Silent())
        report = check_dataset(pool, 1, made)
        with pool.connection() as connection:
            rows = list(datasets.pairs(connection, made.id))
    assert report["sound"]
    assert len(rows) + sum(made.statistics["dropped"].values()) == DOCUMENTS
    assert report["rows"]["train"] >= 20
    assert sum(bool(row.negatives) for row in rows) > 0.5 * len(rows)
    assert not judged & ({row.uri for row in rows} | {negative.uri for row in rows for negative in row.negatives})


def _some(qrels: Path, short: Collection[str], folder: Path) -> Path:
    """The first judgements of short documents, in a file of their own."""
    path = folder.parent / qrels.name
    rows = [row for row in _judgements(qrels) if row[1] in short][:DOCUMENTS]
    path.write_text("\n".join("\t".join(row) for row in rows))
    return path


def _judgements(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text().splitlines(), delimiter="\t"))

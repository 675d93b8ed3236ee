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
from include.indexing.progress import Silent
from include.store import datasets, golden
from include.store.pool import open_pool
from tests.conftest import write_rows
from tests.support import index

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from include.config import Settings

DOCUMENTS = 60


@pytest.mark.slow
def test_medquad(settings: Settings, documents: Path, collection: Callable[..., str], shared_data: Path) -> None:
    """Judged training questions beside judged golden ones: enough of both is left, nothing leaks, negatives are told apart."""
    medquad = shared_data / "medquad"
    train, judging = (_first(medquad / name, DOCUMENTS, documents) for name in ("qrels.train.tsv", "qrels.tsv"))
    wanted = {document for qrels in (train, judging) for _, document, _ in csv.reader(qrels.open(), delimiter="\t")}
    with gzip.open(medquad / "corpus.jsonl.gz", "rt") as rows:
        kept: list[dict[str, Any]] = [row for line in rows if (row := json.loads(line))["id"] in wanted]
    write_rows(documents / "corpus.jsonl", kept)  # type: ignore[arg-type]
    collection(source={"type": "jsonl", "path": str(documents / "corpus.jsonl")})
    index(settings, "handbook")
    queries = str(medquad / "queries.jsonl.gz")
    options = DatasetOptions(queries=queries, qrels=str(train), min_dev=5, negatives=3)
    with open_pool(settings) as pool:
        with pool.connection() as connection:
            golden.save(connection, 1, read_pair(queries, str(judging)))
        made = build_dataset(settings, pool, "handbook", options, progress=Silent())
        report = check_dataset(pool, 1, made)
        with pool.connection() as connection:
            rows_ = list(datasets.pairs(connection, made.id))
    assert report["sound"]
    assert len(rows_) + sum(made.statistics["dropped"].values()) == DOCUMENTS
    assert report["rows"]["train"] >= 50
    assert sum(bool(row.negatives) for row in rows_) > 0.5 * len(rows_)
    judged = {document for _, document, _ in csv.reader(judging.open(), delimiter="\t")}
    assert not judged & ({row.uri for row in rows_} | {n.uri for row in rows_ for n in row.negatives})


def _first(qrels: Path, count: int, folder: Path) -> Path:
    """Judgements of the first questions, in a file of their own."""
    path = folder.parent / qrels.name
    path.write_text("\n".join(qrels.read_text().splitlines()[1 : count + 1]))
    return path

"""Scores against figures worked out by hand, and files as people have them."""

from __future__ import annotations

import gzip
import math
from typing import TYPE_CHECKING

import pytest

from include.errors import BadData
from include.evaluation.evaluate import latency, score
from include.evaluation.judgements import read_qrels, read_queries

if TYPE_CHECKING:
    from pathlib import Path


def test_scores_by_hand() -> None:
    rankings = {"q1": [("a", 0.9), ("b", 0.8), ("c", 0.7)], "q2": [("x", 0.5), ("y", 0.4)]}
    qrels = {"q1": {"b": 2, "c": 1, "z": 1}, "q2": {"nothing": 1}}
    gain = 2 / math.log2(3) + 1 / math.log2(4)
    ideal = 2 + 1 / math.log2(3) + 1 / math.log2(4)
    found = score(rankings, qrels, 10)
    assert found == {
        "ndcg@10": pytest.approx(gain / ideal / 2, abs=1e-4),
        "recall@10": pytest.approx((2 / 3) / 2, abs=1e-4),
        "mrr@10": pytest.approx(0.5 / 2, abs=1e-4),
    }


def test_ties_keep_the_order_of_the_ranking() -> None:
    """trec_eval would sort equal scores by document id; the ranking is the user's."""
    assert score({"q": [("a", 0.5), ("b", 0.5)]}, {"q": {"a": 1}}, 10)["mrr@10"] == 1.0
    assert score({"q": [("b", 0.5), ("a", 0.5)]}, {"q": {"a": 1}}, 10)["mrr@10"] == 0.5


def test_cut_off() -> None:
    ranking = [(str(i), float(-i)) for i in range(20)]
    assert score({"q": ranking}, {"q": {"15": 1}}, 10) == {"ndcg@10": 0.0, "recall@10": 0.0, "mrr@10": 0.0}


def test_latency() -> None:
    assert latency([float(i) for i in range(1, 102)]) == {"p50_ms": 51.0, "p95_ms": 96.0}


@pytest.mark.parametrize("key", ["id", "_id"])
def test_queries_plain_and_gzipped(key: str, tmp_path: Path) -> None:
    content = f'{{"{key}": 1, "text": "first"}}\n\n{{"{key}": "b", "text": "second"}}\n'
    (tmp_path / "q.jsonl").write_text(content)
    with gzip.open(tmp_path / "q.jsonl.gz", "wt") as file:
        file.write(content)
    for name in ("q.jsonl", "q.jsonl.gz"):
        assert read_queries(str(tmp_path / name)) == {"1": "first", "b": "second"}


@pytest.mark.parametrize("content", ["query-id\tcorpus-id\tscore\nq\td\t1\n", "q\td\t1\n", "q\t0\td\t1\n"])
def test_qrels_in_their_usual_shapes(content: str, tmp_path: Path) -> None:
    (tmp_path / "qrels.tsv").write_text(content)
    assert read_qrels(str(tmp_path / "qrels.tsv")) == {"q": {"d": 1}}


@pytest.mark.parametrize("content", ["q\td\t1\nq\td\n", "q\td\tx\nq\td\ty\n"])
def test_wrong_qrels_name_the_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "qrels.tsv").write_text(content)
    with pytest.raises(BadData, match="line"):
        read_qrels(str(tmp_path / "qrels.tsv"))


def test_wrong_queries_name_the_line(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"id": 1, "text": "a"}\n{"id": 2}\n')
    with pytest.raises(BadData, match="line 2"):
        read_queries(str(tmp_path / "q.jsonl"))

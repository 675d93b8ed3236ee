"""Files of queries and judgements as people have them."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from include.errors import BadData
from include.evaluation.judgements import read_qrels, read_queries

if TYPE_CHECKING:
    from pathlib import Path


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

"""Reads queries and relevance judgements in the BEIR layout."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from include.errors import BadData

if TYPE_CHECKING:
    from collections.abc import Iterator


def read_queries(path: str) -> dict[str, str]:
    """query id → text, from lines of {"id" or "_id", "text"}, plain or gzipped."""
    return {key: text for key, (text, _) in read_query_rows(path).items()}


def read_query_rows(path: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """query id → (text, metadata), from lines of {"id" or "_id", "text"[, "metadata"]}, plain or gzipped."""
    queries = {}
    with open_text(path) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    row = json.loads(line)
                    metadata = row.get("metadata")
                    key = str(row["_id"] if "_id" in row else row["id"])
                    queries[key] = str(row["text"]), metadata if isinstance(metadata, dict) else {}
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise BadData(f"{path} line {number}", f"not a query ({error!r})", 'Write {"id": …, "text": …}') from error
    return queries


def read_qrels(path: str) -> dict[str, dict[str, int]]:
    """query id → document → grade, from tab-separated query-id, corpus-id, score, with or without a header."""
    qrels: dict[str, dict[str, int]] = {}
    with open_text(path) as lines:
        for number, row in enumerate(csv.reader(lines, delimiter="\t"), 1):
            if not row or (number == 1 and not row[-1].lstrip("-").isdigit()):
                continue
            if len(row) == 4:  # trec: query, iteration, document, grade
                row = [row[0], row[2], row[3]]
            if len(row) != 3 or not row[2].lstrip("-").isdigit():
                raise BadData(f"{path} line {number}", "not a judgement", "Write query-id<TAB>corpus-id<TAB>score")
            qrels.setdefault(row[0], {})[row[1]] = int(row[2])
    return qrels


@contextmanager
def open_text(path: str) -> Iterator[IO[str]]:
    """Lines of a UTF-8 file, plain or gzipped.

    :raises BadData: it cannot be read.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.endswith(".gz") else Path(path).open(encoding="utf-8") as lines:
            yield lines
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise BadData(
            path, getattr(error, "strerror", None) or str(error), "Give a readable UTF-8 file, plain or .gz"
        ) from error

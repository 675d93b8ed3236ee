"""The store of datasets: the same rows are the same version, also at once; rows come back as they went in."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from include.errors import BadData
from include.store import collections, datasets, forgotten
from include.store.datasets import Negative
from include.store.pool import open_pool
from tests.datasets.zoo import pair
from tests.support import query

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from include.config import Settings
    from include.store.datasets import Dataset, Pair
    from include.store.pool import Pool


@pytest.fixture
def pool(settings: Settings) -> Iterator[Pool]:
    with open_pool(settings) as pool:
        with pool.connection() as connection:
            collections.ensure_collection(connection, "handbook")
        yield pool


def _save(pool: Pool, rows: Sequence[Pair], **how: Any) -> Dataset:
    options = {"arguments": {}, "statistics": {}, "name": "training", **how}
    with pool.connection() as connection:
        return datasets.save(connection, 1, rows=iter(rows), **options)


def _all(pool: Pool, made: Dataset, split: str | None = None) -> list[Pair]:
    with pool.connection() as connection:
        return list(datasets.pairs(connection, made.id, split))


ROWS = [pair(n, split="dev" if n % 5 == 0 else "train") for n in range(1, 1203)]  # more than two batches


def test_rows_come_back_as_they_went_in(pool: Pool) -> None:
    rows = [
        *ROWS, pair(0, start=None, end=None, label=0.25, style="keyword", metadata={"a": [1, {"b": "é"}]}, negatives=()),
        replace(pair(7), split="test", negatives=(Negative("x", None, None, "nothing", None), Negative("y", 1, 2, "z", 0.5))),
    ]  # fmt: skip
    made = _save(pool, rows)
    assert _all(pool, made) == rows
    assert _all(pool, made, "dev") == [row for row in rows if row.split == "dev"]
    assert made.statistics["rows"] == {"dev": 240, "test": 1, "train": 963}
    assert (made.version, made.origin, made.state, made.checks) == (1, "qrels", "ready", None)


def test_the_same_rows_are_the_same_version(pool: Pool, settings: Settings) -> None:
    first = _save(pool, ROWS)
    again = _save(pool, [replace(row, metadata={"score": 0.1}) for row in ROWS], arguments={"min_train": 3})
    assert (again.id, again.version, again.content_hash) == (first.id, 1, first.content_hash)
    assert again.arguments == {"min_train": 3}  # its limits may have been changed
    assert query(settings, "select count(*) from ragworks.dataset_row") == [(len(ROWS),)]


@pytest.mark.parametrize(
    "change",
    [
        {"query": "Another?"}, {"positive": "Another."}, {"split": "dev"}, {"label": 0.0}, {"style": "keyword"}, {"uri": "b"},
        {"metadata": {"kind": "x"}}, {"negatives": ()}, {"negatives": (Negative("other.md", 0, 5, "changed", 0.5),)},
    ],
)  # fmt: skip
def test_another_row_is_another_version(change: dict[str, Any], pool: Pool) -> None:
    rows = [pair(1), pair(2)]
    first = _save(pool, rows)
    second = _save(pool, [replace(rows[0], **change), rows[1]])
    assert (second.version, second.content_hash != first.content_hash) == (2, True)
    assert _all(pool, first) == rows  # a version is never changed


def test_two_at_once_are_one_version(pool: Pool, settings: Settings) -> None:
    """Both begin before either ends."""
    barrier = threading.Barrier(2, timeout=20)

    def rows() -> Iterator[Pair]:
        barrier.wait()
        yield from ROWS

    def save(_: int) -> Dataset:
        made = list(rows())
        return _save(pool, made)

    with ThreadPoolExecutor(2) as threads:
        one, other = threads.map(save, range(2))
    assert one.id == other.id
    assert query(settings, "select count(*), max(version) from ragworks.dataset") == [(1, 1)]
    assert query(settings, "select count(*) from ragworks.dataset_row") == [(len(ROWS),)]


def test_names_and_runs(pool: Pool) -> None:
    first = _save(pool, [pair(1)], statistics={"run_key": "run-1"})
    second = _save(pool, [pair(2)], statistics={"run_key": "run-2"})
    other = _save(pool, [pair(1)], name="other")
    with pool.connection() as connection:
        assert datasets.latest(connection, 1, "training") == second
        datasets.save_checks(connection, second.id, {"failed": ["x"]}, sound=False)
        assert datasets.latest(connection, 1, "training") == first  # the refused one is none to train on
        assert datasets.latest(connection, 1, "nothing") is None
        found = datasets.of_run(connection, 1, "training", "run-2")
        assert found is not None
        assert (found.id, found.state) == (second.id, "refused")
        assert [one.id for one in datasets.datasets_of(connection, 1)] == [other.id, second.id, first.id]
        assert [one.id for one in datasets.datasets_of(connection, 1, "other")] == [other.id]
        with pytest.raises(BadData, match="there is no dataset 99"):
            datasets.dataset(connection, 99)


def test_nothing_is_no_dataset(pool: Pool, settings: Settings) -> None:
    with pytest.raises(BadData, match="has no rows"):
        _save(pool, [])
    assert query(settings, "select count(*) from ragworks.dataset") == [(0,)]


def test_what_is_forgotten_meanwhile_is_not_written(pool: Pool, settings: Settings) -> None:
    rows = [pair(1), pair(2, negatives=("thing-1.md", "other.md")), pair(3, negatives=("thing-1.md",))]
    with pool.connection() as connection:
        forgotten.forget(connection, 1, "thing-1.md")
    made = _save(pool, rows)
    assert [(row.uri, [n.uri for n in row.negatives]) for row in _all(pool, made)] == [
        ("thing-2.md", ["other.md"]), ("thing-3.md", []),
    ]  # fmt: skip
    assert made.statistics["forgotten"] == 1
    with pytest.raises(BadData, match="no rows"):
        _save(pool, rows[:1])

"""What stands on two sides is found: planted by hand, in pure values and in a real dataset over a real index."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from include.datasets.check import check_dataset
from include.datasets.golden_text import GoldenText
from include.datasets.leakage import Side, leaks
from include.datasets.options import DatasetOptions
from include.errors import BadData
from include.hashing import text_hash
from include.indexing.near_duplicates import signature
from include.store import datasets, golden
from include.store.datasets import Negative
from include.store.golden import GoldenQuery, GoldenSpan
from include.store.pool import open_pool
from tests.datasets.zoo import pair
from tests.support import HashEmbedder, index, query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from include.config import Settings
    from include.store.datasets import Dataset, Pair
    from include.store.pool import Pool

WORDS = [f"word{n}" for n in range(200)]
TEXT = " ".join(WORDS)
COPY = " ".join([*WORDS[:100], "changed", *WORDS[101:]])


def _held(text: str) -> tuple[object, bytes]:
    return text_hash(text), signature(text)


def _side(*documents: str, question: str = "", **texts: str) -> Side:
    held = {name: _held(f"{name} {uuid4()}") for name in documents} | {name: _held(text) for name, text in texts.items()}
    return Side({text_hash(question): 3} if question else {}, {}, held)  # type: ignore[arg-type]


def test_nothing_leaks() -> None:
    sides = {"train": _side("a", "b", question="one"), "dev": _side("c", question="two")}
    assert leaks(sides, _side("d", question="three"), 0.8) == []


def test_each_kind() -> None:
    sides = {"train": _side("a", question="same", original=TEXT), "dev": _side("a", question="same", copy=COPY)}
    found = leaks(sides, Side(), 0.8)
    assert [(leak.kind, leak.what) for leak in found] == [
        ("document", ("a",)), ("near_duplicate", ("copy", "original")), ("question", ("row 3", "row 3")),
    ]  # fmt: skip
    assert {leak.sides for leak in found} == {("dev", "train")}
    assert [leak.kind for leak in leaks(sides, Side(), 1.0)] == ["document", "question"]


def test_short_documents_are_copies_only_when_identical() -> None:
    train, dev = _side(one="Too short to sign."), _side(two="Too short to sign.", three="Too short to sign!")
    assert [leak.what for leak in leaks({"train": train, "dev": dev}, Side(), 0.8)] == [("two", "one")]


def test_golden_queries_judge_alone() -> None:
    sides = {"train": _side("a", question="asked", copy=COPY)}
    golden = _side("a", question="asked", original=TEXT)
    assert [leak.kind for leak in leaks(sides, golden, 0.8)] == ["document", "near_duplicate", "question"]
    assert [leak.kind for leak in leaks(sides, golden, 0.8, golden_documents=False)] == ["question"]


@pytest.mark.parametrize(
    ("passage", "known", "source"),
    [
        (" ".join(WORDS[20:60]).upper() + "!", False, "a.md"),  # a part of it, written otherwise
        (" ".join(WORDS[20:60]), True, None),  # of a document that was compared as a whole
        (COPY, False, "a.md"),
        (" ".join([*WORDS[20:40], *(f"other{n}" for n in range(20))]), False, None),  # half of it
        (" ".join(WORDS[20:28]), False, "a.md"),  # eight words, all in a row
        (" ".join(WORDS[20:27]), False, None),  # seven may be chance
        (" ".join([*WORDS[20:30], "other"]), False, None),
        (" ".join([*(f"other{n}" for n in range(50)), *(f"b{n}" for n in range(25))]), False, "b.md"),  # it holds one
        ("c0 c1 c2 " * 20, False, None),  # repeats a document of a few words
        ("The c1!", False, None),
        ("Just THREE words.", True, "c.md"),  # what a golden query asks for
        ("", False, None),
    ],
)
def test_golden_text_under_another_name(passage: str, known: bool, source: str | None) -> None:
    texts = {
        "a.md": TEXT,
        "b.md": " ".join(f"b{n}" for n in range(25)),
        "c.md": "Just three words. " + "c0 c1 c2 c3 c4 c5 c6 c7",
    }
    assert GoldenText(texts, {"c.md": [(0, 16)]}, 0.8).source(passage, known=known) == source
    assert GoldenText({}, {}, 0.8).source(passage, known=known) is None


OPTIONS = DatasetOptions(min_train=2, min_dev=1).model_dump(mode="json")


@pytest.fixture
def pool(settings: Settings, documents: Path, collection: Callable[..., str]) -> Iterator[Pool]:
    """Five documents of which two are near-identical."""
    texts = {"a.md": TEXT, "archive/a.md": COPY, "b.md": "About b.", "c.md": "About c.", "d.md": "About d."}
    for name, text in texts.items():
        (documents / name).parent.mkdir(exist_ok=True)
        (documents / name).write_text(text)
    index(settings, collection(), embedder=HashEmbedder())
    with open_pool(settings) as pool:
        yield pool


def _save(pool: Pool, rows: Sequence[Pair]) -> Dataset:
    with pool.connection() as connection:
        return datasets.save(connection, 1, "training", rows, arguments=OPTIONS, statistics={"threshold": 0.8})


def _rows(*, train: Sequence[str], dev: Sequence[str]) -> list[Pair]:
    named = [*((uri, "train") for uri in train), *((uri, "dev") for uri in dev)]
    return [pair(n, split=split, uri=uri) for n, (uri, split) in enumerate(named)]


def test_a_sound_dataset(pool: Pool, settings: Settings) -> None:
    report = check_dataset(pool, 1, _save(pool, _rows(train=["a.md", "archive/a.md"], dev=["b.md"])))
    assert report["sound"]
    assert report["leakage"]["found"] == 0
    assert query(settings, "select state, checks ->> 'sound' from ragworks.dataset") == [("ready", "true")]


@pytest.mark.parametrize(
    ("rows", "kind", "named"),
    [
        (_rows(train=["a.md", "b.md"], dev=["archive/a.md"]), "near_duplicate", "archive/a.md and a.md in dev and train"),
        (_rows(train=["a.md", "b.md"], dev=["b.md"]), "document", "b.md in dev and train"),
        ([*_rows(train=["a.md", "c.md"], dev=[]), pair(9, uri="d.md", split="dev", query="what is THING 1")],
         "question", "row 3 and row 2"),
        ([*_rows(train=["a.md", "c.md"], dev=[]),
          pair(9, uri="d.md", split="dev", positive="thing 1 is number 1 of the things")],
         "passage", "row 3 and row 2"),
        ([*_rows(train=["a.md"], dev=["c.md"]), pair(9, uri="d.md", negatives=("c.md",))], "document", "c.md in dev and neg"),
    ],
)  # fmt: skip
def test_what_was_planted_fails_the_run(rows: list[Pair], kind: str, named: str, pool: Pool, settings: Settings) -> None:
    with pytest.raises(BadData, match=f"leakage: 1 things stand on two sides, such as {kind} {named}"):
        check_dataset(pool, 1, _save(pool, rows))
    ((state, checks),) = query(settings, "select state, checks from ragworks.dataset")
    assert state == "refused"
    assert checks["failed"] == ["leakage"]
    assert checks["leakage"]["kinds"] == {kind: 1}


def test_what_became_golden_later_leaks(pool: Pool) -> None:
    """The dataset was sound when it was made; the golden query came after, for a near-identical document."""
    made = _save(pool, _rows(train=["a.md", "c.md"], dev=["b.md"]))
    check_dataset(pool, 1, made)
    with pool.connection() as connection:
        golden.save(connection, 1, [GoldenQuery("Something else?", (GoldenSpan("archive/a.md"),))])
    with pytest.raises(BadData, match=r"near_duplicate a\.md and archive/a\.md in train and golden"):
        check_dataset(pool, 1, made)
    with pool.connection() as connection:
        golden.delete_all(connection, 1)
        golden.save(connection, 1, [GoldenQuery("What is thing 0", (), answerable=False)])
    with pytest.raises(BadData, match="question row 1 and a golden query"):
        check_dataset(pool, 1, made)


def test_a_document_that_is_gone_is_known_by_its_name(pool: Pool) -> None:
    rows = _rows(train=["gone.md", "b.md"], dev=["gone.md"])
    with pytest.raises(BadData, match=r"document gone\.md"):
        check_dataset(pool, 1, _save(pool, rows))
    sound = [replace(row, uri="never-seen.md") if row.split == "dev" else row for row in rows]
    assert check_dataset(pool, 1, _save(pool, sound))["sound"]


def test_golden_text_under_another_name_fails_the_run(pool: Pool) -> None:
    """A file may give passages of documents that the index does not hold; their text is compared."""
    taken = " ".join(WORDS[20:60])
    right = [pair(0, uri="b.md"), pair(1, uri="elsewhere.md", positive=taken), pair(2, split="dev", uri="d.md")]
    given = Negative("elsewhere.md", None, None, taken)
    wrong = [pair(0, uri="b.md"), replace(pair(1, uri="c.md"), negatives=(given,)), pair(2, split="dev", uri="d.md")]
    for rows in (right, wrong):
        assert check_dataset(pool, 1, _save(pool, rows))["sound"]
    with pool.connection() as connection:
        golden.save(connection, 1, [GoldenQuery("Something else?", (GoldenSpan("a.md"),))])
    for rows, side in ((right, "train"), (wrong, "negatives of train")):
        with pytest.raises(BadData, match=rf"such as passage row 2 and a\.md in {side} and golden"):
            check_dataset(pool, 1, _save(pool, rows))

"""Confidence on real questions: what bench/abstention.py measured must stay so, on a sample."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from include.answering.confidence import confidence
from include.answering.reading import read
from include.answering.sentences import sentences
from include.answering.words import numbers, words

if TYPE_CHECKING:
    from pathlib import Path


def _rows(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]


def test_it_tells_real_questions_apart(shared_data: Path) -> None:
    """By words alone, on the right paragraph: answerable above look-alikes above other topics."""
    squad = shared_data / "squad-a"
    corpus = {r["id"]: r["text"] for r in _rows(squad / "corpus.jsonl.gz")}
    qrels = dict(line.split("\t")[:2] for line in (squad / "qrels.tsv").read_text().splitlines()[1:])
    asked = [(r["text"], qrels[r["id"]]) for r in _rows(squad / "queries.jsonl.gz")[::12]]
    alike = [(r["text"], r["context_id"]) for r in _rows(squad / "unanswerable.jsonl.gz")[::8]]
    other = [(r["text"], asked[n][1]) for n, r in enumerate(_rows(shared_data / "medquad" / "queries.jsonl.gz")[:300])]
    means = [
        sum(confidence(read(text, [corpus[document]], "english"))[0] for text, document in group) / len(group)
        for group in (asked, alike, other)
    ]
    assert means[0] > means[1] + 0.03
    assert means[1] > means[2] + 0.2
    assert means[2] < 0.35


def test_nothing_to_go_by() -> None:
    assert confidence(read("When?", [], None)) == (0.0, "none")
    assert confidence(read("?", ["A text."], None)) == (0.0, "none")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# Head\nThe U.S. price rose. Dr. Smith left.", ["# Head", "The U.S. price rose.", "Dr. Smith left."]),
        ("One line\nand the rest of it. Then more!", ["One line\nand the rest of it.", "Then more!"]),
        ("- one\n- two\n\n| a | b |\n|---|---|\n| 1 | 2 |", ["- one", "- two", "| a | b |", "| 1 | 2 |"]),
        ("你好。再见！", ["你好。", "再见！"]),
        ("***\n\n", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert [text[s.start : s.end] for s in sentences(text)] == expected


def test_words() -> None:
    assert words("How many of the Commissioner's 1,200 ships were rebuilt?") == ["commission", "1200", "ship", "rebuilt"]
    assert words("Die Häuser 你好", "german") == ["die", "haus", "你", "好"]
    assert numbers("It is 1,200 and 3.5.") == {"1200", "3.5"}

"""Signatures: the same everywhere and for ever, near the exact similarity, and quick on anything."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from include.config import PROJECT_ROOT
from include.indexing import near_duplicates
from include.indexing.near_clusters import clusters, rows_in_a_band
from include.indexing.near_duplicates import SIGNATURE_BYTES, shingles, signature, similarity

if TYPE_CHECKING:
    from pathlib import Path

TEXT = (
    "The quick brown fox jumps over the lazy dog while seven wizards brew a rather strong potion of dried nettles and old rope."
)
WORDS = [f"word{i}" for i in range(5000)]


def _text(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(WORDS, k=words))


def _edited(rng: random.Random, text: str, edits: int) -> str:
    words = text.split()
    for _ in range(edits):
        words[rng.randrange(len(words))] = rng.choice(WORDS)
    return " ".join(words)


def _exact(left: str, right: str) -> float:
    one, other = shingles(left), shingles(right)
    return len(one & other) / len(one | other)


def test_stored_signatures_stay_comparable() -> None:
    """A library that hashes otherwise must come with a migration that empties ragworks.document_text.signature."""
    assert signature(TEXT).hex() == (
        "6a44616a531ba13addf5699c5f5f19e748fb01e8800ffeced33706c9a38ee3ac"
        "c0979618ee1f7721a8226d2317adf9b19c0c2d4e81e0d99ce747e47a1ba67357"
    )


def test_every_process_makes_the_same() -> None:
    code = f"from include.indexing.near_duplicates import signature; print(signature({TEXT!r}).hex())"
    made = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT_ROOT,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout.strip()
        for seed in ("1", "2")
    }  # fmt: skip
    assert made == {signature(TEXT).hex()}


@pytest.mark.parametrize("edits", [0, 1, 5, 20, 60, 400])
def test_the_estimate_is_near_the_exact_similarity(edits: int) -> None:
    """Standard error of 128 values of 4 bits: at most 0.047; of a mean of 40, 0.008."""
    rng = random.Random(edits)
    errors = []
    for _ in range(40):
        text = _text(rng, 400)
        other = _edited(rng, text, edits)
        errors.append(similarity(signature(text), signature(other)) - _exact(text, other))
    assert abs(float(np.mean(errors))) < 0.03
    assert max(map(abs, errors)) < 0.2


def test_case_and_white_space_do_not_count() -> None:
    assert signature(TEXT.upper().replace(" ", "\n\t ")) == signature(TEXT)


def test_the_order_of_words_counts() -> None:
    words = TEXT.split()
    assert similarity(signature(TEXT), signature(" ".join(sorted(words)))) < 0.3


@pytest.mark.parametrize("text", ["", " \n\t ", "Nineteen words " + "only " * 17, "漢字"])
def test_short_texts_have_none(text: str) -> None:
    assert signature(text) == b""
    assert similarity(signature(text), signature(text)) == 0.0


def test_scripts_without_spaces() -> None:
    text = "".join(chr(0x4E00 + i * 7 % 3000) for i in range(400))
    edited, other = text[:200] + "新" + text[201:], "".join(chr(0x4E00 + i * 11 % 3000) for i in range(400))
    assert similarity(signature(text), signature(edited)) > 0.9
    assert similarity(signature(text), signature(other)) < 0.2


def test_blocks_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shingles across the end of a block count as well."""
    text = _text(random.Random(3), 400)
    whole = signature(text)
    for words in (25, 398, 399, 400):
        monkeypatch.setattr(near_duplicates, "BLOCK_WORDS", words)
        assert signature(text) == whole


@pytest.mark.parametrize(
    "text",
    ["word " * 1_000_000, "x" * 20_000_000, "lorem ipsum dolor " * 1_100_000, "漢字" * 1_000_000, "é " * 3_000_000],
    ids=["one word", "one long word", "20 MB", "CJK", "not ASCII"],
)
def test_anything_is_signed_in_bounded_time(text: str) -> None:
    started = time.monotonic()
    assert len(signature(text)) in (0, SIGNATURE_BYTES)
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.8, 0.9, 1.0])
def test_clusters_find_what_comparing_all_finds(threshold: float) -> None:
    rng = random.Random(11)
    texts = [_text(rng, 200) for _ in range(150)]
    texts += [_edited(rng, text, rng.choice([0, 1, 3, 8, 20])) for text in texts[:80]]
    signed = [signature(t) for t in texts] + [b""] * 3
    close = {(i, j) for i in range(len(signed)) for j in range(i) if similarity(signed[i], signed[j]) >= threshold}
    linked = {(i, j) for c in clusters(signed, threshold) for i in c.members for j in c.members if i > j}
    assert len(close) >= 10
    assert len(close & linked) / len(close) >= 0.97
    assert linked <= close or threshold < 0.8  # a chain may link what is not similar itself


def test_many_copies_are_one_cluster_in_bounded_time() -> None:
    rng = random.Random(5)
    page = _text(rng, 300)
    signed = [signature(_edited(rng, page, rng.randint(0, 3))) for _ in range(2000)] * 5 + [signature(_text(rng, 300))]
    started = time.monotonic()
    (cluster,) = clusters(signed, 0.8)
    assert len(cluster.members) == 10_000
    assert min(cluster.similarities) >= 0.8
    assert time.monotonic() - started < 20


def test_nothing_to_cluster() -> None:
    assert clusters([], 0.8) == clusters([b"", b""], 0.8) == clusters([signature(TEXT)], 0.8) == []


def test_bands_are_as_wide_as_recall_allows() -> None:
    assert [rows_in_a_band(t) for t in (0.5, 0.8, 1.0)] == [3, 7, 16]


@pytest.mark.slow
def test_real_pages_in_two_versions(shared_data: Path, tmp_path: Path) -> None:
    from bench.replay import materialize

    versions = []
    for version in ("v15", "v16"):
        materialize(shared_data / "docs-history/diffusers-releases", version, tmp_path / version)
        versions.append({p.relative_to(tmp_path / version): p.read_text() for p in (tmp_path / version).rglob("*.md")})
    old, new = versions
    changed = [p for p in old.keys() & new.keys() if old[p] != new[p] and signature(old[p]) and signature(new[p])]
    errors = [similarity(signature(old[p]), signature(new[p])) - _exact(old[p], new[p]) for p in changed]
    assert len(changed) > 100
    assert float(np.mean(np.abs(errors))) < 0.03

"""Signatures that tell near-identical texts: MinHash over word shingles, a pure function of the text.

Method: Broder, "On the resemblance and containment of documents" (1997), of each minimum only the lowest bits:
Li and König, "b-Bit minwise hashing" (2010). Why these sizes: docs/decisions/0008-near-duplicates.md.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PERMUTATIONS, BITS, SEED = 128, 4, 42
SIGNATURE_BYTES = PERMUTATIONS * BITS // 8
CHANCE = 2.0**-BITS  # how often two unrelated minima agree in their lowest bits
SHINGLE_WORDS = 3
MIN_WORDS = 20  # a shorter text has too few shingles for an estimate: only identical ones count as copies
BLOCK_WORDS = 50_000  # shingled at a time: bounds the memory that a huge text takes

# Thai to Lao, Myanmar, Khmer, kana, CJK, Hangul: written without spaces between words, so each sign counts as one.
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff]"
)


def signature(text: str) -> bytes:
    """64 bytes that resemble those of a similar text; empty for a text of fewer than 20 words."""
    from rensa import RMinHash  # here, so that only what makes signatures needs the extension

    spread = _spread(text)
    if len(spread.split(None, MIN_WORDS - 1)) < MIN_WORDS:
        return b""
    sketch = RMinHash(num_perm=PERMUTATIONS, seed=SEED)
    overlap: list[str] = []
    while spread:
        *words, spread = _first_words(spread)
        words = overlap + words
        sketch.update([" ".join(shingle) for shingle in zip(words, words[1:], words[2:], strict=False)])
        overlap = words[1 - SHINGLE_WORDS :]
    lowest = np.array(sketch.digest(), dtype=np.uint32) & 0xF
    return ((lowest[0::2] << 4) | lowest[1::2]).astype(np.uint8).tobytes()


def similarity(left: bytes, right: bytes) -> float:
    """Estimated Jaccard similarity of two texts by their signatures, 0 to 1; 0 when one has none."""
    if not left or not right:
        return 0.0
    pair = np.frombuffer(left + right, dtype=np.uint8).reshape(2, SIGNATURE_BYTES)
    return float(similarities(pair[:1], pair[1:])[0])


def similarities(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Row by row, of signatures as uint8 of shape (n, 64)."""
    different = left ^ right
    agree = ((different & 0xF0) == 0).sum(axis=1) + ((different & 0x0F) == 0).sum(axis=1)
    estimate: NDArray[np.float64] = (agree / PERMUTATIONS - CHANCE) / (1 - CHANCE)
    return np.maximum(estimate, 0.0)


def shingles(text: str) -> set[int]:
    """Three words in a row, each as a number that holds within this process: for comparing passages exactly."""
    words = _spread(text).split()
    if len(words) < SHINGLE_WORDS:
        return {hash(tuple(words))}
    return set(map(hash, zip(words, words[1:], words[2:], strict=False)))


def _spread(text: str) -> str:
    """Case folded, with spaces around signs of scripts that are written without."""
    folded = text.casefold()
    return folded if folded.isascii() else _UNSPACED.sub(r" \g<0> ", folded)


def _first_words(text: str) -> list[str]:
    """The first words of a text and, last, what remains of it."""
    words = text.split(None, BLOCK_WORDS)
    return words if len(words) > BLOCK_WORDS else [*words, ""]

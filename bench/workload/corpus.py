"""Corpora of any size from real words, the same on every machine: documents of about 200 tokens, or long Markdown pages."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

from bench.workload.fake import minilm_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

TOKENS = 200  # a document, give or take a few dozen
_COMMON = 1000  # ids below are marks, letters and unused entries of BERT's vocabulary; after them words by frequency


def words() -> list[str]:
    """The whole English words of the small model's vocabulary, most frequent first: each is one token."""
    vocabulary = minilm_tokenizer().get_vocab()
    ordered = sorted(vocabulary, key=vocabulary.__getitem__)
    return [w for w in ordered if vocabulary[w] >= _COMMON and w.isascii() and w.isalpha() and len(w) > 2]


def documents(count: int, *, seed: int = 7) -> Iterator[tuple[str, str, str]]:
    """(id, title, text) of ``count`` distinct documents of about TOKENS tokens in sentences and paragraphs."""
    vocabulary = words()
    weights = [1 / (rank + 10) for rank in range(len(vocabulary))]  # as words are distributed in text (Zipf)
    total, cumulative = 0.0, []
    for weight in weights:
        total += weight
        cumulative.append(total)
    chance = random.Random(seed)
    for number in range(count):
        size = max(40, round(chance.gauss(TOKENS - 12, 40)))
        chosen = chance.choices(vocabulary, cum_weights=cumulative, k=size + 5)
        yield f"document-{number:06}", f"{' '.join(chosen[:5]).capitalize()} {number}", _prose(chosen[5:], chance)


def write_jsonl(path: Path, count: int) -> None:
    """One row a document."""
    with path.open("w", encoding="utf-8") as file:
        for name, title, text in documents(count):
            file.write(json.dumps({"id": name, "title": title, "text": text}) + "\n")


def write_files(folder: Path, count: int) -> None:
    """One Markdown file a document, a thousand a folder."""
    for number, (name, title, text) in enumerate(documents(count)):
        parent = folder / f"{number // 1000:03}"
        parent.mkdir(parents=True, exist_ok=True)
        (parent / f"{name}.md").write_text(f"# {title}\n\n{text}\n", encoding="utf-8")


def write_copies(path: Path, pages: Sequence[tuple[str, str]], copies: int) -> None:
    """The pages again and again as rows, every paragraph marked with the copy it is in, so that no two chunks are equal."""
    with path.open("w", encoding="utf-8") as file:
        for copy in range(copies):
            for name, text in pages:
                marked = "\n\n".join(f"{part} {copy}" if part.strip() else part for part in text.split("\n\n"))
                file.write(json.dumps({"id": f"{copy}/{name}", "text": marked}) + "\n")


def _prose(chosen: list[str], chance: random.Random) -> str:
    parts: list[str] = []
    while chosen:
        length = chance.randint(7, 19)
        sentence, chosen = chosen[:length], chosen[length:]
        parts.append(" ".join(sentence).capitalize() + ".")
        parts.append("\n\n" if chance.random() < 0.25 else " ")
    return "".join(parts).strip()

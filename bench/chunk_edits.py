"""How many chunk texts an edit makes new: every new text is embedded again."""

from __future__ import annotations

import random
import re
from collections import Counter
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Split = Callable[[str], list[tuple[int, str]]]

_PROSE = re.compile(r"[^\W_][^\n]*[.:!?]")  # reads as a sentence; a closed or opened fence is another document


def history(split: Split, old: dict[str, str], new: dict[str, str]) -> dict[str, float]:
    """Chunk texts absent before, of all in ``new``, and the share that no chunker could have kept.

    Texts are compared within their document. A chunk of ``new`` that holds a changed or added line is new whatever the
    cuts: that is the bound of this splitter.
    """
    total = fresh = bound = 0
    for path, text in new.items():
        chunks = split(text)
        total += len(chunks)
        if old.get(path) == text:
            continue
        known = {chunk for _, chunk in split(old.get(path, ""))}
        fresh += sum(chunk not in known for _, chunk in chunks)
        touched = list(_changed_lines(old.get(path, ""), text))
        bound += sum(any(a < at + len(c) and at < b for a, b in touched) for at, c in chunks if c not in known)
    return {"chunks": total, "new": fresh, "bound": bound, "new/total": fresh / total, "new/bound": fresh / max(1, bound)}


def _changed_lines(old: str, new: str) -> Iterator[tuple[int, int]]:
    before, after = old.splitlines(keepends=True), new.splitlines(keepends=True)
    ends = [0]
    for line in after:
        ends.append(ends[-1] + len(line))
    for op, _, _, first, last in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if op in ("replace", "insert"):
            yield ends[first], ends[last]


def edit_experiment(split: Split, text: str, chunks: int, paragraphs: int) -> dict[str, Any]:
    """Edit each of ``paragraphs`` of the first ``chunks`` chunks in turn; how many chunk texts are new after it."""
    start, last = split(text)[:chunks][-1]
    text = text[: start + len(last)]
    known = Counter(chunk for _, chunk in split(text))
    chance = random.Random(1)
    counts: dict[str, Counter[int]] = {"word": Counter(), "append": Counter(), "rewrite": Counter()}
    found = list(_paragraphs(text))
    for start, end in found[:: -(-len(found) // paragraphs)]:
        for kind, edited in _edits(text[start:end], chance):
            after = Counter(chunk for _, chunk in split(text[:start] + edited + text[end:]))
            counts[kind][(after - known).total()] += 1
    result: dict[str, Any] = {"chunks": known.total()}
    for kind, seen in counts.items():
        result |= {
            f"{kind} mean": sum(k * n for k, n in seen.items()) / seen.total(),
            f"{kind} max": max(seen),
            f"{kind} over 3": f"{sum(n for k, n in seen.items() if k > 3)}/{seen.total()}",
        }
    result["top insert"] = (Counter(c for _, c in split("A new first paragraph, of one line.\n\n" + text)) - known).total()
    return result


def _paragraphs(text: str) -> Iterator[tuple[int, int]]:
    for match in re.finditer(r"(?:\A|(?<=\n\n)).+?(?=\n\n|\s*\Z)", text, re.DOTALL):
        if _PROSE.match(match.group()) and "```" not in match.group() and 20 <= len(match.group()) <= 1000:
            yield match.span()


def _edits(paragraph: str, chance: random.Random) -> Iterator[tuple[str, str]]:
    words = paragraph.split(" ")
    middle = len(words) // 2
    yield "word", " ".join([*words[:middle], "zebra", *words[middle + 1 :]])
    yield "append", paragraph + " A sentence that an editor had the time to add."
    yield "rewrite", f"Paragraph {chance.randrange(10**9)} is new. " + " ".join(chance.sample(words, len(words)))

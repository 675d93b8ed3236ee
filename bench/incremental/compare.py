"""Right or wrong: the rows of an index against a chunking from scratch of the same documents."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.incremental.peer import read_documents, split

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    Bag = Counter[tuple[str, str]]  # how often a chunk text stands in a document


def expected(documents: Path, max_tokens: int) -> Bag:
    """What an index built from nothing would hold."""
    return Counter((path, chunk) for path, text in read_documents(documents) for chunk in split(text, max_tokens))


def difference(found: Iterable[tuple[str, str]], wanted: Bag) -> dict[str, int | bool]:
    """Rows that are missing, stale (no chunk of their document) and doubled; right when there are none.

    ``merged``: copies of a text within its document that were kept once; a search finds the same, so it counts as right.
    """
    have = Counter(found)
    wrong = {
        "missing": len(wanted.keys() - have.keys()),
        "stale": sum(have[row] for row in have.keys() - wanted.keys()),
        "doubled": sum((have[row] - count for row, count in wanted.items() if have[row] > count), 0),
    }
    merged = sum(count - have[row] for row, count in wanted.items() if 0 < have[row] < count)
    return {"rows": have.total(), "wanted": wanted.total(), "right": not any(wrong.values()), **wrong, "merged": merged}


def needed(before: Bag, after: Bag) -> int:
    """Chunk texts that the index did not hold before: what must be embedded."""
    return len({text for _, text in after} - {text for _, text in before})


@dataclass(frozen=True)
class Sample:
    """The index at one moment of a step.

    :param kept: share visible of the rows that both versions have: nothing has a reason to be without them.
    :param half: documents that show neither their rows before nor those after.
    :param whole: the index as a whole is that of before or that of after.
    """

    seconds: float
    rows: int
    kept: float
    half: int
    whole: bool


class Steps:
    """What an index may show while it goes from one version to another."""

    def __init__(self, before: Bag, after: Bag) -> None:
        self._before, self._after = set(before), set(after)
        self._common = self._before & self._after
        self._documents = _by_document(self._before), _by_document(self._after)

    def sample(self, seconds: float, rows: Sequence[tuple[str, str]]) -> Sample:
        """Judge what was visible at a moment."""
        have = set(rows)
        kept = len(self._common & have) / max(1, len(self._common))
        shown, (old, new) = _by_document(have), self._documents
        empty: frozenset[str] = frozenset()
        half = sum(
            shown.get(name, empty) not in (old.get(name, empty), new.get(name, empty))
            for name in shown.keys() | old.keys() | new.keys()
        )
        return Sample(round(seconds, 3), len(rows), round(kept, 4), half, have in (self._before, self._after))


def _by_document(rows: Iterable[tuple[str, str]]) -> dict[str, frozenset[str]]:
    grouped: dict[str, set[str]] = {}
    for document, text in rows:
        grouped.setdefault(document, set()).add(text)
    return {document: frozenset(texts) for document, texts in grouped.items()}

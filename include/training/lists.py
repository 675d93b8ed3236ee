"""Turns pairs of a dataset into what a reranker learns from: a question with one right passage among wrong ones."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.errors import BadData

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from include.store.datasets import Pair


@dataclass(frozen=True, slots=True)
class RankedList:
    """One step's worth of a question.

    :param texts: the right passage first, then the wrong ones.
    """

    query: str
    texts: tuple[str, ...]

    @property
    def labels(self) -> tuple[float, ...]:
        """1 for the right passage, 0 for the others."""
        return (1.0, *(0.0 for _ in self.texts[1:]))


def ranked_lists(pairs: Iterable[Pair], negatives: int, *, seed: int) -> list[RankedList]:
    """One list for each right pair that has something wrong to be told from.

    Wrong are the mined negatives of the pair, and what people judged wrong for its question (label 0); never a passage that is
    right for the same question. Of more than are asked for, some are drawn.

    :param negatives: most wrong passages of a list.
    :raises BadData: all labels are alike: there is nothing right, or nothing wrong.
    """
    rows = list(pairs)
    right, wrong = _texts(rows, right=True), _texts(rows, right=False)
    draw = random.Random(seed)
    lists = []
    for row in rows:
        if row.label > 0:
            others = dict.fromkeys([*(negative.text for negative in row.negatives), *wrong[row.query]])
            choice = [text for text in others if text not in right[row.query]]
            chosen = choice if len(choice) <= negatives else draw.sample(choice, negatives)
            if chosen:
                lists.append(RankedList(row.query, (row.positive, *chosen)))
    if not lists:
        raise BadData(f"{len(rows)} training pairs: all labels are alike", *_advice(rows))
    return lists


def _texts(rows: Sequence[Pair], *, right: bool) -> dict[str, dict[str, None]]:
    """question → its right, or wrong, passages."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for row in rows:
        if (row.label > 0) == right:
            found[row.query][row.positive] = None
    return found


def _advice(rows: Sequence[Pair]) -> tuple[str, str]:
    if not rows:
        return "there are none", "Build a dataset with training questions"
    if all(row.label <= 0 for row in rows):
        return "each is wrong, none is right", "Add pairs whose passage answers the question"
    return "each is right, none has a negative", "Build the dataset with hard negatives, or import pairs that were judged wrong"

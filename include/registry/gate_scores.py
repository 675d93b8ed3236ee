"""Reads the scores of an evaluation for the gate, and refuses those that are no numbers. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CHAMPION, CHALLENGER, AGAIN, WITHOUT = "champion", "challenger", "champion_again", "first_stage"
CHAMPION_PAIR, CHALLENGER_PAIR = "champion_reranked", "challenger_reranked"


class Unusable(Exception):
    """The scores cannot be compared; the message says why."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Per query, in one order for all sides.

    :param measure: the one that decides.
    :param sides: side → measure → a score a query; of a side that was asked only some questions None for the others.
    """

    measure: str
    sides: Mapping[str, Mapping[str, Sequence[float | None]]]

    @property
    def queries(self) -> int:
        """How many were asked."""
        return len(self.sides[CHAMPION][self.measure])

    def differences(self, old: str, new: str, positions: Sequence[int] | None = None) -> list[float]:
        """``new`` less ``old`` by the deciding measure, of the queries that both were asked."""
        before, after = self.sides[old][self.measure], self.sides[new][self.measure]
        pairs = [(before[p], after[p]) for p in (range(self.queries) if positions is None else positions)]
        return [b - a for a, b in pairs if a is not None and b is not None]

    def means(self, old: str, new: str) -> tuple[float, float]:
        """The mean score of both over the queries that both were asked."""
        asked = [
            (a, b)
            for a, b in zip(self.sides[old][self.measure], self.sides[new][self.measure], strict=True)
            if a is not None and b is not None
        ]
        return math.fsum(a for a, _ in asked) / len(asked), math.fsum(b for _, b in asked) / len(asked)

    def whole(self, side: str) -> dict[str, list[float]]:
        """Measure → a score a query, of a side that was asked all."""
        return {name: [s for s in column if s is not None] for name, column in self.sides[side].items()}


def read_scores(evaluation: Mapping[str, Any]) -> Scores:
    """The scores of an evaluation.

    :raises Unusable: a side is missing, was asked something else, or has a score that is no number.
    """
    measure = evaluation.get("measure", "ndcg@10")
    sides: Mapping[str, Mapping[str, Sequence[float | None]]] = (evaluation.get("scores") or {}).get("sides") or {}
    for side in (CHAMPION, CHALLENGER):
        if not sides.get(side, {}).get(measure):
            raise Unusable(f"the {side} has no scores")
    size = len(sides[CHAMPION][measure])
    for side, columns in sides.items():
        for name, column in columns.items():
            if len(column) != size:
                raise Unusable(f"{side} was asked {len(column)} questions and the champion {size}")
            wrong = sum(not _is_score(score, needed=side in (CHAMPION, CHALLENGER)) for score in column)
            if wrong:
                raise Unusable(f"{wrong} of {size} scores of the {side} ({name}) are no numbers")
    if sides[CHAMPION].keys() != sides[CHALLENGER].keys():
        raise Unusable("champion and challenger were scored by different measures")
    return Scores(measure, sides)


def _is_score(value: object, *, needed: bool) -> bool:
    """None stands for a question that was not asked, or for a number that JSON cannot hold."""
    if value is None:
        return not needed
    return isinstance(value, int | float) and math.isfinite(value)

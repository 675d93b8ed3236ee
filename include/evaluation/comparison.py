"""Tells whether a challenger is better than a champion, from their scores on the same questions.

Pure: what may be promoted rests on it. Better and worse are said only when it is sure, in two ways that fail differently:
the bootstrap interval of the mean difference lies on one side of nothing, and so large a difference would be rare if the
two were alike (sign flips; corrected by Holm when several measures are looked at, else one of six is "significant" by luck
every fourth time). Everything else is a tie, and a tie keeps the champion.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from include.evaluation.bootstrap import CONFIDENCE, paired_interval, sign_flip_p

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Outcome = Literal["better", "worse", "no difference", "too few"]


@dataclass(frozen=True, slots=True)
class Rule:
    """When a difference counts.

    :param minimum: queries below which nothing is said.
    :param differing: queries that must tell the two apart: of five that all favour one side chance makes 1 in 16.
    :param effect: smallest mean difference that is worth having; a sure but smaller one is none.
    :param confidence: of the interval; 1 less it is the error that is allowed.
    :param alike: mean difference from which too few differing queries are called too few, and not a tie.
    """

    minimum: int = 20
    differing: int = 6
    effect: float = 0.0
    confidence: float = CONFIDENCE
    alike: float = 0.005


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the questions say of a challenger.

    :param mean: challenger less champion; ``low`` and ``high`` bound it, None of fewer than two queries.
    :param p: how often chance alone makes a difference so large, corrected for the number of measures.
    :param differing: queries on which the two differ.
    """

    outcome: Outcome
    queries: int
    differing: int
    mean: float
    low: float | None
    high: float | None
    p: float
    reason: str

    @property
    def promotes(self) -> bool:
        """A tie keeps the champion."""
        return self.outcome == "better"

    def as_dict(self) -> dict[str, Any]:
        """For JSON: numbers to four places."""
        return {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(self).items()}


def verdict(differences: Sequence[float], rule: Rule | None = None, *, seed: int = 0) -> Verdict:
    """Judge paired differences, challenger less champion, of one measure where more is better.

    :raises ValueError: one of them is no number.
    """
    return _verdict(differences, sign_flip_p(differences, seed=seed), rule or Rule(), seed)


def compare(
    champion: Mapping[str, Sequence[float]],
    challenger: Mapping[str, Sequence[float]],
    rule: Rule | None = None,
    *,
    seed: int = 0,
) -> dict[str, Verdict]:
    """Judge several measures at once; each list has the scores of the same queries in the same order.

    :raises ValueError: the two were not asked the same.
    """
    if champion.keys() != challenger.keys():
        raise ValueError(f"measures differ: {sorted(champion)} and {sorted(challenger)}")
    differences = {m: [b - a for a, b in zip(champion[m], challenger[m], strict=True)] for m in champion}
    chances = holm({m: sign_flip_p(d, seed=seed) for m, d in differences.items()})
    return {m: _verdict(d, chances[m], rule or Rule(), seed) for m, d in differences.items()}


def holm(chances: Mapping[str, float]) -> dict[str, float]:
    """p-values of several tests, corrected so that one false alarm among all stays as rare as in a single test (Holm 1979)."""
    corrected: dict[str, float] = {}
    highest = 0.0
    for done, name in enumerate(sorted(chances, key=lambda n: chances[n])):
        highest = max(highest, min(1.0, (len(chances) - done) * chances[name]))
        corrected[name] = highest
    return {name: corrected[name] for name in chances}


def _verdict(differences: Sequence[float], p: float, rule: Rule, seed: int) -> Verdict:
    if not all(math.isfinite(d) for d in differences):
        raise ValueError("a difference is no number")
    mean = math.fsum(differences) / len(differences) if differences else 0.0
    differing = sum(d != 0 for d in differences)
    low, high = paired_interval(differences, seed=seed, confidence=rule.confidence) or (None, None)
    found = Verdict("no difference", len(differences), differing, mean, low, high, p, "")
    outcome, reason = _outcome(found, rule)
    return Verdict(outcome, len(differences), differing, mean, low, high, p, reason)


def _outcome(found: Verdict, rule: Rule) -> tuple[Outcome, str]:
    """The rule, and what it rests on in words."""
    if found.queries < max(2, rule.minimum):
        return "too few", f"too few to tell: {found.queries} queries, at least {rule.minimum} are needed"
    if found.low is None or found.high is None:
        return "too few", "too few to tell"
    if found.differing == 0:
        return "no difference", f"no difference: all {found.queries} queries score the same"
    if found.differing < rule.differing:
        few = f"only {found.differing} of {found.queries} queries tell the two apart, at least {rule.differing} must"
        return (
            ("too few", f"too few to tell: {few}")
            if abs(found.mean) >= rule.alike
            else ("no difference", f"no difference: {few}")
        )
    bounds = f"{100 * rule.confidence:g} % interval {found.low:+.4f} to {found.high:+.4f}"
    change = f"{found.mean:+.4f} ({bounds}, p {_chance(found.p)})"
    if found.p > 1 - rule.confidence or found.low <= 0 <= found.high:
        return "no difference", f"no difference that {found.queries} queries can show: {change}"
    if abs(found.mean) < rule.effect:
        return "no difference", f"a sure difference, too small to matter (less than {rule.effect:g}): {change}"
    better = found.mean > 0
    return ("better" if better else "worse"), f"surely {'better' if better else 'worse'}: {change}"


def _chance(p: float) -> str:
    return "below 0.001" if p < 0.001 else f"{p:.3f}"

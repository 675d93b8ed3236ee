"""Finds how much the dense score should count in the hybrid one, and whether that is better than what is set.

Fitted on one half of the questions and scored on the other, both ways: the gain that is shown is one on questions that had
no say in the choice. Nearby weights differ by less than chance, so the lowest of the best would be luck; the weight taken is
the middle of those that are within one standard error of the best (the one-standard-error rule: Breiman and others 1984).
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from include.evaluation.comparison import Rule, Verdict, verdict
from include.evaluation.measures import measure_names, score_hits
from include.retrieval.fusion import fuse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from include.progress import Progress
    from include.store.golden import GoldenQuery
    from include.store.search import Hit

WEIGHTS = tuple(round(step * 0.05, 2) for step in range(21))
PLACES = 10
SEED = 0


@dataclass(frozen=True, slots=True)
class Pool:
    """The candidates of one question with the scores of both legs, arrays of shape (candidates,).

    :param depth: ``retrieval.candidates``, by which scores are scaled.
    """

    query: GoldenQuery
    hits: tuple[Hit, ...]
    dense: NDArray[np.float64]
    lexical: NDArray[np.float64]
    depth: int


@dataclass(frozen=True, slots=True)
class Fit:
    """What was found.

    :param curve: nDCG@10 over all questions of each weight.
    :param halves: the weight that each half chose.
    :param held_out: nDCG@10 on the half that had no say, mean of both ways.
    :param present: nDCG@10 of the weight that is set, ``weight`` the one to set.
    :param gain: the judgement of held-out less present.
    """

    queries: int
    weight: float
    present_weight: float
    present: float
    held_out: float
    halves: tuple[float, float]
    curve: tuple[tuple[float, float], ...]
    gain: Verdict

    @property
    def recommended(self) -> float:
        """The weight that should stand in the collection file: a tie keeps the one that does."""
        return self.weight if self.gain.promotes else self.present_weight

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        numbers = {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(self).items()}
        curve = [{"dense_weight": weight, f"ndcg@{PLACES}": round(score, 4)} for weight, score in self.curve]
        return {**numbers, "curve": curve, "gain": self.gain.as_dict(), "recommended": self.recommended}


def gather(
    candidates: Callable[[str], Sequence[Hit]], queries: Sequence[GoldenQuery], *, depth: int, progress: Progress
) -> list[Pool]:
    """Ask for all candidates of both legs.

    :param candidates: of a question, with both scores of each.
    :param depth: so many each leg brought.
    """
    progress.step("gather candidates", len(queries))
    pools = []
    for query in queries:
        hits = tuple(candidates(query.query))
        dense, lexical = (np.array([hit.scores.get(leg, 0.0) for hit in hits]) for leg in ("dense", "lexical"))
        pools.append(Pool(query, hits, dense, lexical, depth))
        progress.advance(1)
    return pools


def fit(pools: Sequence[Pool], present_weight: float, rule: Rule | None = None, *, seed: int = SEED) -> Fit:
    """Choose a weight and judge it against the one that is set."""
    weights = tuple(sorted({*WEIGHTS, present_weight}))
    scores = {weight: np.array(_scores(pools, weight)) for weight in weights}
    order = list(range(len(pools)))
    random.Random(seed).shuffle(order)
    halves = order[::2], order[1::2]
    chosen = [choose({w: s[half] for w, s in scores.items()}) if half else present_weight for half in halves]
    held_out = np.empty(len(pools))
    for weight, other in zip(chosen, reversed(halves), strict=True):
        held_out[other] = scores[weight][other]
    present = scores[present_weight]
    return Fit(
        len(pools),
        choose(scores),
        present_weight,
        float(present.mean()),
        float(held_out.mean()),
        (chosen[0], chosen[1]),
        tuple((weight, float(scores[weight].mean())) for weight in weights),
        verdict((held_out - present).tolist(), rule, seed=seed),
    )


def choose(scores: dict[float, NDArray[np.float64]]) -> float:
    """The middle of the weights around the best that are not told apart from it: paired, within one standard error."""
    weights = sorted(scores)
    best = max(weights, key=lambda w: (float(scores[w].mean()), -abs(w - 0.5)))
    good = [w for w in weights if _no_worse(scores[w], scores[best])]
    first = last = weights.index(best)
    while first > 0 and weights[first - 1] in good:
        first -= 1
    while last + 1 < len(weights) and weights[last + 1] in good:
        last += 1
    middle = (weights[first] + weights[last]) / 2
    return min(weights[first : last + 1], key=lambda w: (abs(w - middle), abs(w - best)))


def _no_worse(scores: NDArray[np.float64], best: NDArray[np.float64]) -> bool:
    loss = best - scores
    error = float(loss.std(ddof=1)) / len(loss) ** 0.5 if len(loss) > 1 else 0.0
    return float(loss.mean()) <= error


def _scores(pools: Sequence[Pool], weight: float) -> list[float]:
    """nDCG@10 of each question when the dense score has this weight."""
    scored = score_hits([_ranked(pool, weight) for pool in pools], [pool.query for pool in pools], PLACES)
    return [one[measure_names(PLACES)[0]] for one in scored]


def _ranked(pool: Pool, weight: float) -> list[Hit]:
    fused = fuse(pool.dense, pool.lexical, weight, pool.depth)

    def place(number: int) -> tuple[float, float, str, int]:
        hit = pool.hits[number]
        return -float(fused[number]), -float(pool.dense[number]), hit.document, hit.ordinal

    return [pool.hits[number] for number in sorted(range(len(pool.hits)), key=place)]

"""How sure it is that the passages hold the answer: a logistic formula, fitted on real questions by bench/abstention.py."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.answering.features import features

if TYPE_CHECKING:
    from collections.abc import Mapping

    from include.answering.reading import Reading


@dataclass(frozen=True, slots=True)
class Fit:
    """Coefficients of the features, and the intercept; ``name`` stands in the answer's passport."""

    name: str
    coefficients: Mapping[str, float]
    intercept: float


# `python -m bench.abstention` on half of squad-a's articles; how well they do on the other half: docs/answers.md.
WORDS = Fit(
    "words-1",
    {
        "sentence": 1.571, "anywhere": 0.426, "pairs": 0.567, "names": 1.589, "figures": 0.652, "negation": -0.592,
        "type": -0.194,
    },
    -2.62,
)  # fmt: skip
FITS = {
    "all-MiniLM-L6-v2": Fit(
        "all-MiniLM-L6-v2-1",
        {
            "sentence": 1.064, "anywhere": 0.231, "pairs": 0.185, "names": 0.66, "figures": 0.997, "negation": -0.527,
            "type": -0.359, "cosine": 6.126, "lead": -0.981,
        },
        -5.01,
    )
}  # fmt: skip


def confidence(reading: Reading, model: str | None = None) -> tuple[float, str]:
    """Confidence, 0 to 1, and the name of the formula.

    :param model: that compared meanings. Cosines of different models are not alike: one without a fit of its own is judged
        by the words alone.
    """
    if not reading.sentences or not reading.asked:
        return 0.0, "none"
    fit = FITS.get(model or "", WORDS)
    if any(sentence.cosine is None for sentence in reading.sentences):
        fit = WORDS
    found = features(reading)
    z = fit.intercept + sum(weight * found[name] for name, weight in fit.coefficients.items())
    return 1 / (1 + math.exp(-z)), fit.name

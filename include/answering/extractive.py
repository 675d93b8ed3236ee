"""The answer without an LLM: the sentence of the passages that has most of the question's words and meaning, as it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.answering.features import answering, best_sentence, score

if TYPE_CHECKING:
    from include.answering.reading import Reading, Sentence

ALIKE = 0.95  # of the best score: a second sentence as good is shown too
MOST = 2


def extract(reading: Reading) -> list[Sentence]:
    """One sentence, or two where another is nearly as good; best first; none when there are no sentences."""
    if not reading.sentences:
        return []
    best = best_sentence(reading)
    others = [
        s for s in answering(reading) if s.text != best.text and score(s) >= ALIKE * score(best) and s.words and score(s) > 0
    ]
    ranked = sorted(others, key=lambda s: (-score(s), s.source, s.start))
    return [best, *ranked[: MOST - 1]]

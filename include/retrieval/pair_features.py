"""What a light reranker knows of a question and a passage: numbers that are cheap to have.

Some say what the first stage said, others how the words of the two meet. Each depends on the pair alone, not on the other
candidates, which are read in pieces. What is not known is NaN, so that texts without a first stage can be scored too.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from include.lexical.vocabulary import Vocabulary
    from include.retrieval.rerank import FirstStage

K1, B = 0.9, 0.4  # of BM25, as lexical.k1 and lexical.b are by default
FIRST_STAGE = ("rank", "score", "dense", "lexical", "score_gap", "dense_gap", "lexical_gap")
WORDS = (
    "question_terms",  # different terms of the question
    "passage_terms",  # terms of the passage, logarithm
    "covered",  # share of the question's terms that the passage has
    "covered_in_first_line",  # the same of its first line: a heading or a title
    "density",  # share of the passage's terms that are the question's
    "most_frequent",  # most often that one of them stands there, logarithm
    "pairs",  # share of the question's neighbouring terms that are neighbours in the passage
    "longest_run",  # longest run of terms that both have, by the question's length
    "first_place",  # where the first one stands, 0 to 1; 1 when none does
    "closest",  # most of them within as many terms as twice the question, as a share
    "written_alike",  # share of the question's words with digits, capitals inside or underscores that stand there as written
    "characters",  # of the passage, logarithm
    "weight",  # of the question's terms, each by how rare it is
    "covered_weight",  # share of it that the passage's terms have
    "first_line_weight",  # the same of its first line
    "bm25",  # of the pair
    "bm25_share",  # the same as a share of the weight, which no passage reaches
)
FEATURES = FIRST_STAGE + WORDS


def pair_features(
    vocabulary: Vocabulary, query: str, texts: Sequence[str], found: Sequence[FirstStage] | None = None
) -> NDArray[np.float32]:
    """One row a text, of shape (texts, :data:`FEATURES`).

    :param vocabulary: its words are cut as the index cuts them.
    """
    asked = vocabulary.analyzer.sequence(query)
    names = _names(query)
    said = found if found is not None else [{}] * len(texts)
    rows = [
        [
            *_first_stage(one),
            *_words(vocabulary, asked, text, names),
        ]
        for text, one in zip(texts, said, strict=True)
    ]
    return np.array(rows, dtype=np.float32).reshape(len(texts), len(FEATURES))


def _first_stage(found: FirstStage) -> list[float]:
    known = {**found}
    return [float(value) if isinstance(value := known.get(name), int | float) else math.nan for name in FIRST_STAGE]


def _words(vocabulary: Vocabulary, asked: list[int], text: str, names: list[str]) -> list[float]:
    """The features of :data:`WORDS`."""
    cut, wanted = vocabulary.analyzer, set(asked)
    terms = cut.sequence(text)
    title = set(cut.sequence(text.lstrip().partition("\n")[0]))
    places = [place for place, term in enumerate(terms) if term in wanted]
    counts: dict[int, int] = {}
    for place in places:
        counts[terms[place]] = counts.get(terms[place], 0) + 1
    pairs = set(itertools.pairwise(asked))
    met = pairs & {(terms[p], terms[p + 1]) for p in places if p + 1 < len(terms)}
    return [
        float(len(wanted)),
        _log(len(terms)),
        _share(len(counts), len(wanted)),
        _share(len(wanted & title), len(wanted)),
        _share(len(places), len(terms)),
        _log(max(counts.values(), default=0)),
        _share(len(met), len(pairs)),
        _share(_longest_run(asked, terms, places), len(asked)),
        places[0] / len(terms) if places else 1.0,
        _share(_closest(terms, places, 2 * len(asked)), len(wanted)),
        _share(sum(name in text for name in names), len(names)),
        _log(len(text)),
        *_weighed(vocabulary, asked, counts, title, len(terms)),
    ]


def _weighed(vocabulary: Vocabulary, asked: list[int], counts: dict[int, int], title: set[int], terms: int) -> list[float]:
    """The features from ``weight`` on: a rare word that both have tells more than a frequent one.

    :param counts: how often the passage has each term of the question.
    """
    weights = {term: vocabulary.weight(term) for term in asked}
    whole = sum(weights.values())
    norm = K1 * (1 - B + B * terms / vocabulary.average)
    bm25 = sum(weights[term] * count / (count + norm) for term, count in counts.items())
    covered = sum(weights[term] for term in counts)
    in_title = sum(weight for term, weight in weights.items() if term in title)
    return [whole, _share(covered, whole), _share(in_title, whole), bm25, _share(bm25, whole)]


def _longest_run(asked: list[int], terms: list[int], places: list[int]) -> int:
    """Terms of the longest run that stands in both."""
    ends: dict[int, int] = {}  # length of the run that ends at this place of the question, and at the term before
    longest, before = 0, -2
    for place in places:
        last = ends if place == before + 1 else {}
        ends = {n: last.get(n - 1, 0) + 1 for n, term in enumerate(asked) if term == terms[place]}
        longest, before = max(longest, *ends.values()), place
    return longest


def _closest(terms: list[int], places: list[int], window: int) -> int:
    """Most different terms of the question within a window of so many terms."""
    most, first = 0, 0
    inside: dict[int, int] = {}
    for place in places:
        inside[terms[place]] = inside.get(terms[place], 0) + 1
        while place - places[first] >= window:
            term = terms[places[first]]
            inside[term] -= 1
            if not inside[term]:
                del inside[term]
            first += 1
        most = max(most, len(inside))
    return most


def _names(query: str) -> list[str]:
    """Words of the question that are written in a way of their own: identifiers, versions, acronyms."""
    words = [word.strip(".,;:?!()[]{}\"'`") for word in query.split()]
    return [word for word in dict.fromkeys(words) if any(c.isdigit() or c == "_" for c in word) or word[1:] != word[1:].lower()]


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _log(count: int) -> float:
    return math.log1p(count)

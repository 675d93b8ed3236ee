"""Asks the questions of an evaluation, one or several configurations each, and keeps what the scores and the page need."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from include.evaluation.measures import measure_names, score_documents, score_gains, whole_grades
from include.evaluation.relevance import gains
from include.retrieval.query import ALL_PRINCIPALS, Query

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from include.collection_file import Mode
    from include.evaluation.measures import Scores
    from include.progress import Progress
    from include.retrieval.query import Found
    from include.store.golden import GoldenQuery
    from include.store.search import Hit

SEED = 0
WARM_UP = 3  # questions asked before the clock counts
CHUNKS_A_PLACE = 3  # first guess of how many chunks fill a place
MAX_CHUNKS = 1_000  # looked at to fill the places: nobody sees what lies behind
SHOWN, SNIPPET = 5, 160  # passages kept of each question, and characters of each


class Finder(Protocol):
    """A searcher, of which an evaluation needs no more."""

    def find(self, query: Query) -> Found:
        """The passages, best first."""


@dataclass(frozen=True, slots=True)
class Side:
    """One way of answering.

    :param mode: None, and ``rerank`` None: as its settings say.
    """

    finder: Finder
    mode: Mode | None = None
    rerank: bool | None = None

    def find(self, text: str, top_k: int) -> Found:
        """Everything counts, whoever may see it and however often it stands there."""
        asked = Query(text, top_k=top_k, mode=self.mode, principals=ALL_PRINCIPALS, rerank=self.rerank, copies=True)
        return self.finder.find(asked)


@dataclass(frozen=True, slots=True)
class Passage:
    """One passage found, for people."""

    document: str
    start: int
    end: int
    score: float
    text: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What one question gave.

    :param milliseconds: of the first search, embedding included.
    :param seconds: embed, search, rerank: of that search.
    """

    scores: Scores
    milliseconds: float
    seconds: Mapping[str, float] = field(default_factory=dict)
    shown: tuple[Passage, ...] = ()


@dataclass(frozen=True, slots=True)
class _Ranked:
    documents: tuple[str, ...]
    gained: tuple[float, ...]
    milliseconds: float
    seconds: Mapping[str, float]
    shown: tuple[Passage, ...]


def ask(
    sides: Sequence[Side], queries: Sequence[GoldenQuery], *, top_k: int, clients: int = 1, seed: int = SEED, progress: Progress
) -> list[list[Asked]]:
    """Ask every side every question, in random order; the sides take turns, so that a slow minute hits all of them.

    Results do not depend on the order, times do: neighbours in a file are often about one document, which is then in memory.

    :param clients: questions asked at once.
    :return: for each side what each question gave, in the order of ``queries``.
    """
    progress.step("ask", len(queries))
    order = list(range(len(queries)))
    random.Random(seed).shuffle(order)
    for position in order[-WARM_UP:]:
        for side in sides:
            side.find(queries[position].query, CHUNKS_A_PLACE * top_k)

    def one(turn_and_position: tuple[int, int]) -> tuple[int, list[_Ranked]]:
        turn, position = turn_and_position
        ranked: dict[int, _Ranked] = {}
        for number in range(len(sides)):
            which = (number + turn) % len(sides)
            ranked[which] = _rank(sides[which], queries[position], top_k)
        return position, [ranked[number] for number in range(len(sides))]

    found: dict[int, list[_Ranked]] = {}
    with ThreadPoolExecutor(max_workers=clients) as pool:
        for position, ranked in pool.map(one, enumerate(order)):
            found[position] = ranked
            progress.advance(1)
    of_sides = [[found[position][number] for position in range(len(queries))] for number in range(len(sides))]
    return [_scored(ranked, queries, top_k) for ranked in of_sides]


def _rank(side: Side, query: GoldenQuery, top_k: int) -> _Ranked:
    """Asks for more chunks until the places are filled; only the first search is timed."""
    wanted = CHUNKS_A_PLACE * top_k
    started = time.monotonic()
    first = found = side.find(query.query, wanted)
    milliseconds = (time.monotonic() - started) * 1000
    while True:
        gained = gains(found.hits, query, top_k)
        if len(gained) >= top_k or len(found.hits) < wanted or wanted >= MAX_CHUNKS:
            break
        wanted = min(2 * wanted, MAX_CHUNKS)
        found = side.find(query.query, wanted)
    documents = tuple(dict.fromkeys(hit.document for hit in found.hits))[:top_k]
    shown = tuple(_passage(hit) for hit in found.hits[:SHOWN])
    return _Ranked(documents, tuple(gained), milliseconds, first.seconds, shown)


def _passage(hit: Hit) -> Passage:
    text = " ".join(hit.text[: 2 * SNIPPET].split())
    return Passage(hit.document, hit.start, hit.end, hit.score, text if len(text) <= SNIPPET else text[: SNIPPET - 1] + "…")


def _scored(ranked: Sequence[_Ranked], queries: Sequence[GoldenQuery], top_k: int) -> list[Asked]:
    qrels = {str(n): grades for n, query in enumerate(queries) if (grades := whole_grades(query)) is not None}
    by_document = score_documents({n: ranked[int(n)].documents for n in qrels}, qrels, top_k) if qrels else {}
    return [
        Asked(by_document.get(str(n)) or score_gains(r.gained, query, top_k), r.milliseconds, r.seconds, r.shown)
        for n, (r, query) in enumerate(zip(ranked, queries, strict=True))
    ]


def columns(asked: Sequence[Asked], top_k: int) -> dict[str, list[float]]:
    """measure → the score of each question."""
    return {name: [one.scores[name] for one in asked] for name in measure_names(top_k)}

"""Compares a newly built generation with the live one on the same queries, before it may take its place."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import psycopg

from include.collection_file import Retrieval
from include.embedding.embedder import TextRefused
from include.errors import BadConfiguration, Transient
from include.evaluation.bootstrap import paired_interval
from include.evaluation.gate_report import PLACES, GateReport, Loss
from include.evaluation.headings import sanity_queries
from include.evaluation.relevance import gains, ndcg, recall
from include.retrieval.candidates import prepare
from include.retrieval.first_stage import passages
from include.store import comparable, golden
from include.store.pool import snapshot
from include.store.scope import ALL_PRINCIPALS, open_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from include.embedding.embedder import Embedder
    from include.progress import Progress
    from include.store.generations import Generation
    from include.store.golden import GoldenQuery
    from include.store.pool import Connection, Pool

logger = logging.getLogger(__name__)

MAX_QUERIES = 1_000  # of a larger golden set always the same ones
SANITY_DOCUMENTS, SANITY_CHARACTERS = 200, 50_000  # sampled, and read of each
SMALL_SAMPLE = 20
MIN_DIFFERING = 6  # all for one side by chance: 1 in 64; of five 1 in 32, more than the 2.5 % a one-sided error may have
WORST = 5
MAX_CHUNKS = 960  # looked at to fill ten places: nobody sees what lies behind a thousand chunks
SHOWN = 200  # characters of a query in a report


@dataclass(frozen=True, slots=True)
class _Sample:
    origin: str
    queries: list[GoldenQuery]
    left_out: int = 0
    warnings: tuple[str, ...] = ()


def compare_generations(
    pool: Pool,
    collection_id: int,
    live: Generation | None,
    built: Generation,
    embedders: Callable[[Generation], Embedder],
    *,
    progress: Progress,
) -> GateReport:
    """Ask both generations the same queries in one run, through the search that serves.

    :param live: None when the collection has none yet: then only golden queries are scored, and nothing is compared.
    :param built: complete, with its index, not live yet.
    :param embedders: the model that made a generation's vectors; asked once for each distinct embedder.
    :raises Transient: another run dropped one of them meanwhile.
    """
    started = time.monotonic()
    with pool.connection() as connection:
        sample = _sample(connection, collection_id, live, built)
        further = _further(connection, collection_id, live, built, sample)
    try:
        report = _compare(pool, sample, live, built, embedders, progress)
        if further is not None:
            report = replace(report, sanity=_compare(pool, further, live, built, embedders, progress))
    except psycopg.errors.UndefinedTable as error:
        raise Transient("quality was not compared", "another run dropped a generation meanwhile", "Run again") from error
    done = replace(report, seconds=round(time.monotonic() - started, 3))
    logger.info("generation %d: %s", built.id, done.summary())
    for warning in (*done.warnings, *(done.sanity.warnings if done.sanity else ())):
        logger.warning("generation %d: %s", built.id, warning)
    return done


def _sample(connection: Connection, collection: int, live: Generation | None, built: Generation) -> _Sample:
    """The golden queries that both can be asked, else the sanity set."""
    counts = golden.count(connection, collection)
    known = counts.queries - counts.unanswerable
    asked = comparable.usable_queries(connection, collection, built.id, live.id if live else None, limit=MAX_QUERIES)
    usable = [query for query in asked if query.spans]
    left_out = len(asked) - len(usable)
    if usable:
        some = (f"{len(asked)} of {known} golden queries were asked, always the same ones",) if known > len(asked) else ()
        return _Sample("golden", usable, left_out, some)
    if live is None:
        return _Sample("none", [], left_out)
    made = _headings(connection, collection, live, built)
    why = f"none of {known} golden queries could be asked" if known else "the collection has no golden queries"
    warning = f"{why}: headings stand in for them, which tells a broken index from a sound one, not a good one from a better"
    return _Sample("headings" if made else "none", made, left_out, (warning,))


def _further(
    connection: Connection, collection: int, live: Generation | None, built: Generation, sample: _Sample
) -> _Sample | None:
    """The sanity set beside a few golden queries: five of them can be as bad as can be, and nothing is sure."""
    if live is None or sample.origin != "golden" or len(sample.queries) >= SMALL_SAMPLE:
        return None
    made = _headings(connection, collection, live, built)
    warning = f"only {len(sample.queries)} golden queries could be asked: headings are asked too, and the gate heeds both"
    return _Sample("headings", made, 0, (warning,)) if made else None


def _headings(connection: Connection, collection: int, live: Generation, built: Generation) -> list[GoldenQuery]:
    texts = comparable.sample_documents(
        connection, collection, built.id, live.id, limit=SANITY_DOCUMENTS, characters=SANITY_CHARACTERS
    )
    return sanity_queries(texts)


def _compare(
    pool: Pool,
    sample: _Sample,
    live: Generation | None,
    built: Generation,
    embedders: Callable[[Generation], Embedder],
    progress: Progress,
) -> GateReport:
    report = GateReport(
        False, built.id, live.id if live else None, origin=sample.origin, left_out=sample.left_out, warnings=sample.warnings
    )
    if not sample.queries:
        reason = "no document gives a question" if live else "no generation is live yet, and there are no golden queries"
        return replace(report, reason=reason)
    sides = [built, live] if live else [built]
    progress.step("compare quality", len(sample.queries))
    try:
        vectors = _embed(sides, [query.query for query in sample.queries], embedders)
    except _ModelGone as gone:
        return replace(report, reason=f"the model of the live generation cannot be asked: {gone}")
    fair = [n for n in range(len(sample.queries)) if live is None or vectors[1][n] is not None]
    queries = [sample.queries[n] for n in fair]
    if not queries:
        return replace(report, reason="the model of the live generation refuses every query")
    scored = _score(pool, sides, queries, [[side[n] for n in fair] for side in vectors], progress)
    means = [(_mean([s[0] for s in side]), _mean([s[1] for s in side])) for side in scored]
    left_out = sample.left_out + len(sample.queries) - len(queries)
    report = replace(report, queries=len(queries), left_out=left_out, built=means[0][0], built_recall=means[0][1])
    if live is None:
        return replace(report, reason="no generation is live yet")
    return _paired(replace(report, live=means[1][0], live_recall=means[1][1]), queries, scored)


def _paired(report: GateReport, queries: Sequence[GoldenQuery], scored: Sequence[Sequence[tuple[float, float]]]) -> GateReport:
    built, live = ([ndcg_ for ndcg_, _ in side] for side in scored)
    differences = [b - a for a, b in zip(live, built, strict=True)]
    differing = sum(d != 0 for d in differences)
    enough = not 0 < differing < MIN_DIFFERING
    low, high = (paired_interval(differences) if enough else None) or (None, None)
    losers = sorted((i for i, d in enumerate(differences) if d < 0), key=differences.__getitem__)[:WORST]
    worst = [
        Loss(queries[i].query[:SHOWN], tuple(dict.fromkeys(s.document for s in queries[i].spans)), live[i], built[i])
        for i in losers
    ]
    warnings = report.warnings
    if len(queries) < SMALL_SAMPLE:
        warnings += (f"only {len(queries)} queries: a small sample, take the verdict with care",)
    if not enough:
        warnings += (f"only {differing} queries tell the two apart: too few for a verdict, at least {MIN_DIFFERING} must",)
    return replace(
        report, compared=True, difference=_mean(differences), low=low, high=high, worst=tuple(worst), warnings=warnings
    )


class _ModelGone(Exception):
    """The live generation's model is no longer where it was; the index that it made cannot answer anybody."""


def _embed(
    sides: Sequence[Generation], queries: Sequence[str], embedders: Callable[[Generation], Embedder]
) -> list[list[NDArray[np.float32] | None]]:
    """The queries' vectors for each side, by ``embed_query`` as the search does, since models may have a query prompt.

    None where the model refuses the query.
    """
    made: dict[str, list[NDArray[np.float32] | None]] = {}
    for number, side in enumerate(sides):
        try:
            if side.embedder not in made:
                embedder = embedders(side)
                made[side.embedder] = [_asked(embedder, query) for query in queries]
        except BadConfiguration as error:
            if number == 0:
                raise
            raise _ModelGone(str(error)) from error
    return [made[side.embedder] for side in sides]


def _asked(embedder: Embedder, query: str) -> NDArray[np.float32] | None:
    try:
        return embedder.embed_query(query)
    except TextRefused:
        return None


def _score(
    pool: Pool,
    sides: Sequence[Generation],
    queries: Sequence[GoldenQuery],
    vectors: Sequence[Sequence[NDArray[np.float32] | None]],
    progress: Progress,
) -> list[list[tuple[float, float]]]:
    """(nDCG, recall) of each query, for each side; both sides of a query see one snapshot. What is refused finds nothing."""
    scored: list[list[tuple[float, float]]] = [[] for _ in sides]
    for number, query in enumerate(queries):
        with pool.connection() as connection, snapshot(connection):
            for side, of_side, scores in zip(sides, vectors, scored, strict=True):
                vector = of_side[number]
                gained = [] if vector is None else _ranking(connection, side, vector, query)
                scores.append((ndcg(gained, query, PLACES), recall(gained, query)))
        progress.advance(1)
    return scored


def _ranking(connection: Connection, side: Generation, vector: NDArray[np.float32], query: GoldenQuery) -> list[float]:
    """What is found at each place; asks for more chunks until the places are filled."""
    retrieval, wanted = Retrieval(), 3 * PLACES
    asked = prepare(query.query, side, retrieval, lambda _: vector)
    scope = open_scope(connection, side, {}, ALL_PRINCIPALS)
    while True:
        hits = passages(connection, side, asked, scope, wanted=wanted, fold=None)
        gained = gains(hits, query, PLACES)
        if len(gained) >= PLACES or len(hits) < wanted or wanted >= MAX_CHUNKS:
            return gained
        wanted *= 2


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

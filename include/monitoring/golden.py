"""The golden queries, asked of the present index and compared query by query with how they were answered at first."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from include.evaluation.bootstrap import intervals, paired_interval
from include.monitoring.breach import Signal, judged
from include.monitoring.catalogue import SIGNALS
from include.store import evaluations, signals
from include.store import golden as golden_queries

if TYPE_CHECKING:
    from include.collection_file import Collection
    from include.config import Settings
    from include.monitoring.windows import Window
    from include.progress import Progress
    from include.store.evaluations import Evaluation
    from include.store.pool import Pool

logger = logging.getLogger(__name__)

NAME, MEASURE = "golden_ndcg", "ndcg@10"
SURE = 0.99  # of the change: the same questions are asked, so that only an index or a model that changed moves it


def ask(
    settings: Settings, pool: Pool, configured: Collection, key: int, window: Window, *, run_key: str, progress: Progress
) -> None:
    """Evaluate, and keep the signal of a window; nothing where there are too few golden queries."""
    from include.evaluation.evaluate import NothingToAsk, Options, evaluate

    minimum = SIGNALS[NAME].minimum or configured.monitoring.minimum_sample
    with pool.connection() as connection:
        count = golden_queries.count(connection, key)
    if not configured.monitoring.golden or count.queries - count.unanswerable < minimum:
        return
    try:
        now = evaluate(settings, pool, configured.name, Options(), progress=progress)
    except NothingToAsk as error:
        logger.warning("%s: golden queries are not asked: %s", configured.name, error)
        return
    with pool.connection() as connection:
        first = signals.first_evaluation(connection, key, NAME, window.end)
        before = evaluations.load(connection, key, first) if first is not None else None
        signals.save(connection, key, [_signal(now, before, window, minimum)], run_key=run_key)


def _signal(now: Evaluation, before: Evaluation | None, window: Window, minimum: int) -> Signal:
    scores = _scores(now)
    shown = intervals([list(scores.values())])[0]
    value = sum(scores.values()) / len(scores)
    near, reference, change = None, {}, None
    if before is not None:
        then = _scores(before)
        both = [scores[query] - then[query] for query in scores if query in then]
        if len(both) >= minimum and (change := paired_interval(both, confidence=SURE)) is not None:
            near = -change[1]
            reference = {
                "of": str(before.id),
                "evaluation": before.id,
                "value": sum(then.values()) / len(then),
                "sample": len(both),
            }
    threshold = SIGNALS[NAME].threshold
    state = judged(near, len(scores), minimum, threshold)  # too few to tell while there is nothing to pair it with
    low, high = shown or (None, None)
    detail: dict[str, Any] = {"evaluation": now.id, "change": list(change) if change else None}
    return Signal(
        NAME, window.start, window.end, value, low, high, len(scores), threshold, near, None, state, reference, detail
    )


def _scores(of: Evaluation) -> dict[str, float]:
    column = of.report["scores"]["columns"].index(MEASURE)
    return {row[0]: float(row[column]) for row in of.report["scores"]["rows"]}

"""Measures one window: every signal with its interval, its sample, and how it compares with what is usual."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from include.monitoring import budget
from include.monitoring.breach import Signal, State, judged
from include.monitoring.catalogue import SIGNALS
from include.monitoring.statistics import Interval, Mean, Share, discrepancy, domain_auc, pooled
from include.store import monitored, signals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    import numpy as np
    from numpy.typing import NDArray

    from include.collection_file import Monitoring
    from include.monitoring.usual import Usual
    from include.monitoring.windows import Window
    from include.store.generations import Generation
    from include.store.monitored import Log
    from include.store.pool import Connection
    from include.store.signals import Reference

SHOWN = 0.95  # confidence of the interval that people see; what is judged is surer: budget.level
VECTORS = 1_000  # of a window
NEAREST = 300  # questions that are held against the index
HOUR = 3600.0
# Figures of different models are not alike. A reranker scales its scores to 0 to 1, so its margins are its own.
EACH_MODEL = {"coverage": ("embedder",), "confidence": ("embedder",), "score_margin": ("embedder", "reranker")}


@dataclass(frozen=True, slots=True)
class Scene:
    """What a window is measured with.

    :param thresholds: calibrated ones, by signal.
    :param latency_budget: of a search, in seconds.
    """

    collection: int
    monitoring: Monitoring
    live: Generation | None
    thresholds: Mapping[str, float]
    latency_budget: float
    max_rejected: float

    def threshold(self, name: str) -> float | None:
        """What the near end must pass."""
        fixed = {"freshness": self.monitoring.freshness_hours, "quarantine": self.max_rejected}
        return self.thresholds.get(name, fixed.get(name, SIGNALS[name].threshold))

    def minimum(self, name: str) -> int:
        """Sample below which it says nothing."""
        own = SIGNALS[name].minimum
        return self.monitoring.minimum_sample if own is None else min(own, self.monitoring.minimum_sample)


def measure_window(connection: Connection, scene: Scene, window: Window, usual: Usual | None) -> list[Signal]:
    """All signals of a window but the golden queries, which are asked of the present index alone.

    :param usual: None: there is no reference yet.
    """
    log = monitored.log(connection, scene.collection, window.start, window.end, latency_budget=scene.latency_budget)
    vectors = _vectors(connection, scene, window)
    figures: dict[str, Share | Mean] = {**_figures(log), "coverage": _coverage(connection, scene, vectors)}
    models = {name: _models(name, scene, log) for name in EACH_MODEL}
    found = _compared(connection, scene, window, usual, figures, models, vectors)
    found += _told(scene, window, log)
    found += _surroundings(connection, scene, window)
    corpus = _corpus(connection, scene, window)
    return [*found, corpus] if corpus else found


def _vectors(connection: Connection, scene: Scene, window: Window) -> NDArray[np.float32]:
    embedder = scene.live.embedder if scene.live else ""
    return monitored.vectors(connection, scene.collection, window.start, window.end, embedder=embedder, limit=VECTORS)


def _figures(log: Log) -> dict[str, Share | Mean]:
    return {
        "zero_results": Share(log.empty, log.questions),
        "abstention": Share(log.abstained, log.chats),
        "errors": Share(log.failed, log.questions),
        "thumbs_down": Share(log.thumbs_down, log.thumbs),
        "score_margin": Mean(log.margin or 0.0, log.margin_deviation or 0.0, log.margins),
        "confidence": Mean(log.confidence or 0.0, log.confidence_deviation or 0.0, log.confident),
        "groundedness": Mean(log.groundedness or 0.0, log.groundedness_deviation or 0.0, log.grounded),
    }


def _coverage(connection: Connection, scene: Scene, vectors: NDArray[np.float32]) -> Mean:
    if scene.live is None or not len(vectors) or vectors.shape[1] != scene.live.dimension:
        return Mean(0.0, 0.0, 0)
    found = monitored.nearest(connection, scene.live, vectors[:NEAREST])
    # As many as were asked stand for the window: the others are left out to save time, and are like these.
    return Mean(float(found.mean()), float(found.std()), len(found)) if len(found) else Mean(0.0, 0.0, 0)


def _compared(
    connection: Connection,
    scene: Scene,
    window: Window,
    usual: Usual | None,
    figures: Mapping[str, Share | Mean],
    models: Mapping[str, Mapping[str, str]],
    vectors: NDArray[np.float32],
) -> list[Signal]:
    """Signals that are held against the reference; all that say something share in the budget of false alarms."""
    inside = usual is None or _inside(window, usual.reference)
    others: dict[str, _Usually] = {}
    if usual is not None and not inside:
        others = {
            name: _usually(connection, scene, window, usual, name, figure, models.get(name, {}))
            for name, figure in figures.items()
        }
    drifting = usual is not None and window.start >= max(usual.drift.end, usual.vectors_to or usual.drift.end)
    enough = drifting and usual is not None and min(len(vectors), len(usual.vectors)) >= scene.monitoring.minimum_sample
    telling = [n for n, other in others.items() if min(figures[n].total, other.figure.total) >= scene.minimum(n)]
    count = len(telling) + 2 * enough
    found = []
    for name, figure in figures.items():
        compared = others[name] if name in telling else None
        found.append(_figure(scene, window, name, figure, compared, count, models.get(name, {}), inside=inside))
    return found + _drift(scene, window, usual, vectors, count, enough=enough)


def _inside(window: Window, reference: Reference) -> bool:
    return window.start >= reference.start and window.end <= reference.end


@dataclass(frozen=True, slots=True)
class _Usually:
    """A figure of several windows together, from ``start`` to ``end``."""

    figure: Share | Mean
    start: datetime
    end: datetime


def _together(figure: Share | Mean, rows: Sequence[Signal]) -> Share | Mean:
    """The same figure of several windows."""
    if isinstance(figure, Share):
        return Share(sum(int(row.detail["count"]) for row in rows), sum(int(row.detail["total"]) for row in rows))
    return pooled([row.detail for row in rows])


def _models(name: str, scene: Scene, log: Log) -> dict[str, str]:
    """Fingerprints of the models that a figure of a window is of."""
    if name == "coverage":
        return {"embedder": scene.live.embedder if scene.live else ""}
    return {kind: getattr(log, kind) for kind in EACH_MODEL[name]}


def _usually(
    connection: Connection,
    scene: Scene,
    window: Window,
    usual: Usual,
    name: str,
    figure: Share | Mean,
    models: Mapping[str, str],
) -> _Usually:
    """What a figure is held against: the reference, or the first windows of models that the reference does not know.

    :param models: that the figure is of; empty: it means the same whichever answer.
    """
    rows = [row for row in usual.rows.get(name, []) if all(row.detail.get(kind) == value for kind, value in models.items())]
    if rows or not models:
        return _Usually(_together(figure, rows), usual.reference.start, usual.reference.end)
    length = timedelta(days=scene.monitoring.reference_days)
    most = max(1, round(length / timedelta(hours=scene.monitoring.window_hours)))
    since, until = usual.reference.start, window.start
    first = signals.first_of(connection, scene.collection, name, models, since=since, until=until, limit=most)
    first = [row for row in first if row.window_start < first[0].window_start + length]
    if not first:
        return _Usually(_together(figure, []), since, until)
    return _Usually(_together(figure, first), first[0].window_start, first[-1].window_end)


def _figure(
    scene: Scene,
    window: Window,
    name: str,
    figure: Share | Mean,
    other: _Usually | None,
    count: int,
    models: Mapping[str, str],
    *,
    inside: bool,
) -> Signal:
    """One signal.

    :param other: what it is compared with; None: nothing.
    :param inside: the window is part of what is usual. Where it is not, nothing to compare with says nothing.
    """
    shown = figure.interval(SHOWN) if figure.total > 1 else None
    detail = {**_raw(figure), **models}
    threshold = scene.threshold(name)
    near, reference = None, {}
    state: State = "within" if inside and figure.total >= scene.minimum(name) else "too_few"
    if other is not None:
        total = other.figure.total
        level = budget.level(scene.monitoring.false_alarms, count, scene.monitoring.window_hours, figure.total, total)
        change = figure.less(other.figure, 1 - 2 * level)  # type: ignore[arg-type]
        near = change.low if SIGNALS[name].worse > 0 else -change.high
        detail |= {"change": change.as_dict(), "level": round(level, 5)}
        reference = _told_reference(other)
        state = judged(near, figure.total, scene.minimum(name), threshold)
    return Signal(
        name, window.start, window.end, shown.value if shown else None, shown.low if shown else None,
        shown.high if shown else None, figure.total, threshold, near, None, state, reference, detail,
    )  # fmt: skip


def _raw(figure: Share | Mean) -> dict[str, Any]:
    if isinstance(figure, Share):
        return {"count": figure.count, "total": figure.total}
    return {"value": figure.value, "deviation": figure.deviation, "total": figure.total}


def _told_reference(other: _Usually) -> dict[str, Any]:
    start, end = other.start.isoformat(), other.end.isoformat()
    return {"of": start, "start": start, "end": end, "sample": other.figure.total, **other.figure.interval(SHOWN).as_dict()}


def _drift(
    scene: Scene, window: Window, usual: Usual | None, vectors: NDArray[np.float32], count: int, *, enough: bool
) -> list[Signal]:
    names = ("query_drift", "embedding_drift")
    if not enough or usual is None or usual.vectors_from is None or usual.vectors_to is None:
        state: State = "within" if usual is None or _inside(window, usual.drift) else "too_few"
        return [_untold(scene, window, name, len(vectors), state) for name in names]
    sample, other = len(vectors), len(usual.vectors)
    level = budget.level(scene.monitoring.false_alarms, count, scene.monitoring.window_hours, sample, other)
    reference = {
        "of": usual.drift.start.isoformat(), "start": usual.vectors_from.isoformat(), "end": usual.vectors_to.isoformat(),
        "sample": other,
    }  # fmt: skip
    auc = domain_auc(vectors, usual.vectors, 1 - 2 * level)
    found = [_drifted(scene, window, "query_drift", auc, None, 0.5, sample, reference, level)]
    apart = discrepancy(vectors, usual.vectors, level)
    if apart is None:
        return [*found, _untold(scene, window, "embedding_drift", sample, "too_few")]
    interval = Interval(apart.value, apart.value - apart.reach, apart.value + apart.reach)
    return [*found, _drifted(scene, window, "embedding_drift", interval, apart.p, 0.0, sample, reference, level)]


def _untold(scene: Scene, window: Window, name: str, sample: int, state: State) -> Signal:
    """A signal without a value."""
    return Signal(name, window.start, window.end, None, None, None, sample, scene.threshold(name), state=state)


def _drifted(
    scene: Scene,
    window: Window,
    name: str,
    interval: Interval,
    p: float | None,
    nothing: float,
    sample: int,
    reference: Mapping[str, Any],
    level: float,
) -> Signal:
    """One of the two.

    :param nothing: its value when nothing has changed.
    """
    threshold = scene.threshold(name)
    state = judged(interval.low, sample, scene.minimum(name), threshold)
    return Signal(
        name, window.start, window.end, interval.value, interval.low, interval.high, sample, threshold, interval.low, p,
        state, {**reference, "value": nothing}, {"level": round(level, 5)},
    )  # fmt: skip


def _told(scene: Scene, window: Window, log: Log) -> list[Signal]:
    """Shares that are held against a limit, or only told."""
    slow = _share(scene, window, "latency", Share(log.slow, log.timed), {"p50": log.p50, "p95": log.p95})
    return [slow, _share(scene, window, "feedback_rate", Share(log.judged, log.questions), {})]


def _share(scene: Scene, window: Window, name: str, share: Share, detail: dict[str, Any]) -> Signal:
    shown, threshold = share.interval(SHOWN), scene.threshold(name)
    state = judged(shown.low, share.total, scene.minimum(name), threshold)
    return Signal(
        name, window.start, window.end, shown.value, shown.low, shown.high, share.total, threshold, shown.low, None, state,
        {}, _raw(share) | detail,
    )  # fmt: skip


def _surroundings(connection: Connection, scene: Scene, window: Window) -> list[Signal]:
    """Numbers without chance in them."""
    state = monitored.surroundings(connection, scene.collection, window.start, window.end)
    indexed = state["indexed_at"]
    found = [
        _number(scene, window, "failed_trainings", float(state["failed_trainings"]), 1),
        _number(scene, window, "gpu_hours", round(float(state["gpu_seconds"]) / HOUR, 4), 1),
        _number(scene, window, "freshness", (window.end - indexed).total_seconds() / HOUR if indexed else None, 1),
    ]
    share = Share(min(state["quarantined"], state["documents"]), state["documents"])
    return [*found, _share(scene, window, "quarantine", share, {})]


def _number(scene: Scene, window: Window, name: str, value: float | None, sample: int) -> Signal:
    threshold = scene.threshold(name)
    state = judged(value, sample, 0, threshold)
    return Signal(name, window.start, window.end, value, value, value, sample, threshold, value, None, state)


def _corpus(connection: Connection, scene: Scene, window: Window) -> Signal | None:
    """How unlike the rest of the index what came in is; None: too little came, or all of it."""
    if scene.live is None:
        return None
    new, others, count = monitored.chunk_vectors(connection, scene.live, window.start, window.end, limit=VECTORS)
    if min(len(new), len(others)) < scene.minimum("corpus_drift"):
        return None
    auc = domain_auc(new, others, SHOWN)
    return Signal(
        "corpus_drift", window.start, window.end, auc.value, auc.low, auc.high, len(new), None, None, None, "within",
        {"sample": len(others)}, {"chunks": count},
    )  # fmt: skip

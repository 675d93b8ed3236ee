"""How long answers take: percentiles of a whole search, and where the time goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.evaluation.asking import Asked

PARTS = ("embed", "search", "rerank")
NOTHING_MS = 0.05  # a part that never took longer was not there
CURVE = (1, 5, 10, 25, 50, 75, 90, 95, 99, 99.5, 100)  # percentiles of the plot


def percentiles(milliseconds: Sequence[float]) -> dict[str, float]:
    """Median, 95th and 99th percentile, by linear interpolation."""
    p50, p95, p99 = np.percentile(milliseconds, [50, 95, 99])
    return {"p50_ms": round(float(p50), 2), "p95_ms": round(float(p95), 2), "p99_ms": round(float(p99), 2)}


def describe_latency(asked: Sequence[Asked], *, clients: int, seconds: float, cold_ms: float | None) -> dict[str, Any]:
    """Cold and warm, apart.

    :param seconds: wall time of all questions.
    :param cold_ms: from nothing loaded to the first answer; None when the model was in memory before.
    """
    times = [one.milliseconds for one in asked]
    parts = {
        part: percentiles(of_part)
        for part in PARTS
        if max(of_part := [1000 * one.seconds.get(part, 0.0) for one in asked]) >= NOTHING_MS
    }  # fmt: skip
    return {
        "cold_ms": None if cold_ms is None else round(cold_ms, 1),
        "clients": clients,
        "searches": len(asked),
        "searches_per_second": round(len(asked) / seconds, 1) if seconds > 0 else None,
        "warm": percentiles(times),
        "parts": parts,
        "curve": [[percent, round(float(ms), 2)] for percent, ms in zip(CURVE, np.percentile(times, CURVE), strict=True)],
    }

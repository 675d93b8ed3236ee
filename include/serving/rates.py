"""How often a key may ask: a token bucket a key, in this process."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bucket:
    """Tokens left at a moment.

    :param at: monotonic seconds.
    """

    tokens: float
    at: float


def take(bucket: Bucket | None, per_minute: int, now: float) -> tuple[Bucket, float]:
    """Take one token of a bucket that holds a minute's worth and fills evenly.

    :param bucket: None: full.
    :return: the bucket after it, and the seconds until a token is there; 0: one was taken.
    """
    rate = per_minute / 60
    tokens = float(per_minute) if bucket is None else min(float(per_minute), bucket.tokens + (now - bucket.at) * rate)
    if tokens >= 1:
        return Bucket(tokens - 1, now), 0.0
    return Bucket(tokens, now), (1 - tokens) / rate


class Rates:
    """The buckets of all keys. Each replica has its own, so a key may ask as often at each."""

    def __init__(self) -> None:
        self._buckets: dict[int, Bucket] = {}

    def take(self, key: int, per_minute: int | None, now: float) -> int | None:
        """Whole seconds to wait; None: go ahead."""
        if per_minute is None:
            return None
        self._buckets[key], wait = take(self._buckets.get(key), per_minute, now)
        return math.ceil(wait) if wait else None

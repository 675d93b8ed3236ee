"""Whether a source has changed since the last run: asked over and over, so it opens no model and writes nothing.

It decides by state, the listing against what the database knows, so a look that was missed is made up by the next.
"""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain, islice
from typing import TYPE_CHECKING

from include.indexing.listing import differences
from include.store import kept_out, objects
from include.store.pool import open_connection
from include.store.watching import known_collection, no_schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from include.config import Settings
    from include.indexing.listing import Difference
    from include.sources.source import Source, SourceObject
    from include.store.pool import Connection

SAY_AGAIN = 900.0  # seconds after which a change that no run has taken up is announced again
SETTLE = 2.0  # seconds after which a file's time says for certain whether it was written again
LONGEST_PAUSE = 60.0  # seconds between two looks at something that is away, unless fewer looks are asked for
_BATCH = 10_000


@dataclass(frozen=True, slots=True)
class Pending:
    """What a run would find to do.

    :param digest: of uris and fingerprints; the same for the same difference.
    :param changed: objects to read, and objects that are back.
    :param vanished: objects that are no longer listed.
    :param settled: False while a file is so new that it may change without its time showing it.
    """

    digest: str
    changed: int
    vanished: int
    settled: bool = True


class Busy(Exception):
    """A run is reading this source, so the difference is half told: ask again."""


def pending_changes(settings: Settings, source: Source, name: str) -> Pending | None:
    """What differs between the source and what the database knows of it; None when nothing does. Blocks; streams.

    A collection that was never indexed knows nothing. Content that a gate refused is known: it is no difference.

    :raises Busy: a run holds the collection at this moment.
    :raises RagworksError: the source cannot be listed, or the database is away; neither is a change.
    """
    with _quiet():
        listing = _begun(source.listing())  # before the database is held: most sources are through then
        with open_connection(settings) as connection:
            try:
                collection = known_collection(connection, name)
                if collection is None:
                    return _summary(differences(listing, ()))
                if not collection.free:
                    raise Busy(name)
                known = objects.known_objects(connection, collection.id)
                return _summary(_less_forgotten(connection, collection.id, differences(listing, known)))
            except no_schema():  # an older one: the first run migrates it
                return _summary(differences(source.listing(), ()))


class Watch:
    """Which looks are worth an event: once for each difference, not once for each look.

    :param seconds: between two looks.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._fired, self._fired_at = "", 0.0
        self._unsettled, self._hurries = "", False
        self._failures, self._problem = 0, ""

    def fires(self, found: Pending | None, now: float) -> bool:
        """Whether to announce what a look found.

        Not again while the run that it started works on it, nor for each look at something that no run can take up.

        :param now: a monotonic clock's seconds.
        """
        self._failures, self._problem = 0, ""
        before, self._unsettled = self._unsettled, found.digest if found and not found.settled else ""
        self._hurries = self._unsettled not in ("", before)
        if found is None:
            self._fired = ""
            return False
        if self._hurries:
            return False
        if found.digest == self._fired and now - self._fired_at < SAY_AGAIN:
            return False
        self._fired, self._fired_at = found.digest, now
        return True

    def fails(self, error: Exception) -> bool:
        """Note that a look failed; whether that is news."""
        self._failures += 1
        before, self._problem = self._problem, f"{type(error).__name__} {getattr(error, 'what', '')}"
        return self._problem != before

    def recovers(self) -> bool:
        """Whether the look before failed."""
        return self._failures > 0

    def pause(self, took: float) -> float:
        """Seconds until the next look, at least as many as the last one ``took``; more and more while looks fail."""
        if self._failures:
            longest = max(self._seconds, LONGEST_PAUSE)
            return max(took, min(longest, self._seconds * 2.0 ** min(self._failures, 20)))
        return max(took, min(self._seconds, SETTLE) if self._hurries else self._seconds)


def _begun(listing: Iterator[SourceObject]) -> Iterator[SourceObject]:
    first = list(islice(listing, 1))
    return chain(first, listing)


def _less_forgotten(connection: Connection, collection: int, found: Iterable[Difference]) -> Iterator[Difference]:
    """Without what a person had erased: the source may list it for ever."""
    differing = (one for one in found if one.kind != "unchanged")
    while batch := list(islice(differing, _BATCH)):
        erased = kept_out.is_forgotten(connection, collection, [one.uri for one in batch])
        yield from (one for one in batch if one.kind == "vanished" or one.uri not in erased)


def _summary(found: Iterable[Difference]) -> Pending | None:
    digest = blake2b(digest_size=16)
    counts = {True: 0, False: 0}
    settled = True
    for one in found:
        if one.kind == "unchanged":
            continue
        version, racy, _ = one.fingerprint.partition(":racy-")  # a suffix that never repeats
        settled = settled and not racy
        counts[one.kind == "vanished"] += 1
        digest.update(f"{one.uri}\0{version}\n".encode("utf-8", "surrogatepass"))
    if not any(counts.values()):
        return None
    return Pending(digest.hexdigest(), counts[False], counts[True], settled)


_looking, _looking_lock = 0, threading.Lock()


@contextmanager
def _quiet() -> Iterator[None]:
    """Remarks on a listing (files of other types, skipped links) belong to a run, not to a look every few seconds."""
    _count_looks(1)
    try:
        yield
    finally:
        _count_looks(-1)


def _count_looks(change: int) -> None:
    global _looking
    with _looking_lock:
        _looking += change
        logging.getLogger("include.sources").setLevel(logging.ERROR if _looking else logging.NOTSET)

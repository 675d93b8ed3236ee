"""Compares a listing with what is known: pure, streaming, one pass over two sorted sequences."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from include.errors import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from include.sources.source import SourceObject


@dataclass(slots=True)
class ListingDiff:
    """What a listing says.

    :param read: objects that are new or whose fingerprint changed.
    :param returned: uris of objects that had vanished and are back unchanged: nothing to read.
    :param vanished: uris known before and not listed now.
    :param unchanged: how many others; they are not opened.
    """

    read: list[SourceObject] = field(default_factory=list)
    returned: list[str] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)
    unchanged: int = 0


def diff_listing(
    listing: Iterable[SourceObject], known: Iterable[tuple[str, str, bool]], *, reread: bool = False
) -> ListingDiff:
    """What to read and what is gone.

    :param listing: objects in code point order of their uris.
    :param known: (uri, fingerprint, present) in the same order.
    :param reread: read every object whatever its fingerprint says.
    """
    diff = ListingDiff()
    before = iter(known)
    old = next(before, None)
    for new in _in_order(listing):
        while old is not None and old[0] < new.uri:
            _vanish(diff, old)
            old = next(before, None)
        if old is None or old[0] != new.uri:
            diff.read.append(new)
            continue
        _compare(diff, new, old, reread)
        old = next(before, None)
    while old is not None:
        _vanish(diff, old)
        old = next(before, None)
    return diff


def _vanish(diff: ListingDiff, old: tuple[str, str, bool]) -> None:
    if old[2]:
        diff.vanished.append(old[0])


def _compare(diff: ListingDiff, new: SourceObject, old: tuple[str, str, bool], reread: bool) -> None:
    _, fingerprint, present = old
    if reread or new.fingerprint != fingerprint:
        diff.read.append(new)
    elif present:
        diff.unchanged += 1
    else:
        diff.returned.append(new.uri)


def _in_order(listing: Iterable[SourceObject]) -> Iterator[SourceObject]:
    """Refuse a listing out of order: a merge of it would call present documents deleted."""
    last = ""
    for item in listing:
        if item.uri <= last and last:
            raise Terminal(f"the source listed {item.uri!r} after {last!r}", "a listing must be sorted, without repeats", "")
        last = item.uri
        yield item

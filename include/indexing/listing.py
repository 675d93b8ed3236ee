"""Compares a listing with what is known: pure, streaming, one pass over two sorted sequences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from include.errors import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from include.sources.source import SourceObject
    from include.store.objects import Known

Kind = Literal["new", "changed", "recent", "parser", "retry", "rebuild", "returned", "vanished", "unchanged"]
TO_READ: tuple[Kind, ...] = ("new", "changed", "recent", "parser", "retry", "rebuild")


class Difference(NamedTuple):
    """What a listing says of one object.

    :param kind: why it is to be read (one of TO_READ), or what became of an object that is not.
    :param fingerprint: "" of a vanished one.
    """

    kind: Kind
    uri: str
    fingerprint: str
    size: int


def differences(listing: Iterable[SourceObject], known: Iterable[Known], *, reread: bool = False) -> Iterator[Difference]:
    """What became of every object, listed or known.

    :param listing: objects in code point order of their uris.
    :param known: in the same order.
    :param reread: read every object whatever its fingerprint says.
    """
    before = iter(known)
    old = next(before, None)
    for new in _in_order(listing):
        while old is not None and old.uri < new.uri:
            yield from _vanished(old)
            old = next(before, None)
        if old is None or old.uri != new.uri:
            yield Difference("new", new.uri, new.fingerprint, new.size)
            continue
        yield Difference(_kind(new, old, reread), new.uri, new.fingerprint, new.size)
        old = next(before, None)
    while old is not None:
        yield from _vanished(old)
        old = next(before, None)


def _vanished(old: Known) -> Iterator[Difference]:
    if old.present:
        yield Difference("vanished", old.uri, "", 0)


def _kind(new: SourceObject, old: Known, reread: bool) -> Kind:
    if reread:
        return "rebuild"
    if not old.fingerprint:
        return "retry"  # an earlier reading did not end, or a person asked for another
    if new.fingerprint != old.fingerprint:
        now, before = (fingerprint.partition(":racy-")[0] for fingerprint in (new.fingerprint, old.fingerprint))
        if now == before:
            return "recent"  # it was so new when it was read that it may have changed since without a new stamp
        return "parser" if now.split("|")[0] == before.split("|")[0] else "changed"
    if old.due:
        return "retry"
    return "unchanged" if old.present else "returned"


def _in_order(listing: Iterable[SourceObject]) -> Iterator[SourceObject]:
    """Refuse a listing out of order: a merge of it would call present documents deleted."""
    last = ""
    for item in listing:
        if item.uri <= last and last:
            raise Terminal(f"the source listed {item.uri!r} after {last!r}", "a listing must be sorted, without repeats", "")
        last = item.uri
        yield item

"""The plan's first half is pure: a listing against what is known."""

from __future__ import annotations

import pytest

from include.errors import Terminal
from include.indexing.listing import diff_listing
from include.sources.source import SourceObject


def _listing(*entries: tuple[str, str]) -> list[SourceObject]:
    return [SourceObject(uri, fingerprint, 1) for uri, fingerprint in entries]


def test_every_case_in_one_pass() -> None:
    known = [("a", "1", True), ("b", "1", True), ("c", "1", True), ("d", "1", False), ("e", "1", False), ("g", "1", True)]
    diff = diff_listing(_listing(("a", "1"), ("b", "2"), ("d", "1"), ("f", "1")), known)
    assert [o.uri for o in diff.read] == ["b", "f"]
    assert (diff.returned, diff.vanished, diff.unchanged) == (["d"], ["c", "g"], 1)


def test_reread_opens_everything() -> None:
    assert [o.uri for o in diff_listing(_listing(("a", "1")), [("a", "1", True)], reread=True).read] == ["a"]


def test_empty_listing_makes_everything_vanish() -> None:
    assert diff_listing([], [("a", "1", True)]).vanished == ["a"]


def test_code_point_order_is_postgres_order() -> None:
    """The database sorts with collation C: UTF-8 bytes, which is Python's order of code points."""
    names = ["B", "a", "z", "é", "中", "😀"]
    assert diff_listing(_listing(*((n, "1") for n in names)), [(n, "1", True) for n in names]).unchanged == len(names)


@pytest.mark.parametrize("uris", [("b", "a"), ("a", "a")])
def test_a_listing_out_of_order_is_refused(uris: tuple[str, str]) -> None:
    with pytest.raises(Terminal, match="sorted"):
        diff_listing(_listing((uris[0], "1"), (uris[1], "1")), [])

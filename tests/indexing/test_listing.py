"""The plan's first half is pure: a listing against what is known."""

from __future__ import annotations

import pytest

from include.errors import Terminal
from include.indexing.listing import Difference, differences
from include.sources.source import SourceObject
from include.store.objects import Known


def _listing(*entries: tuple[str, str]) -> list[SourceObject]:
    return [SourceObject(uri, fingerprint, 1) for uri, fingerprint in entries]


def _kinds(listing: list[SourceObject], known: list[Known], *, reread: bool = False) -> dict[str, str]:
    return {d.uri: d.kind for d in differences(listing, known, reread=reread)}


def test_every_case_in_one_pass() -> None:
    known = [Known("a", "1", True), Known("b", "1", True), Known("c", "1", True), Known("d", "1", False),
             Known("e", "1", False), Known("g", "1", True), Known("h", "1", True, due=True)]  # fmt: skip
    listing = _listing(("a", "1"), ("b", "2"), ("d", "1"), ("f", "1"), ("h", "1"))
    assert _kinds(listing, known) == {
        "a": "unchanged", "b": "changed", "c": "vanished", "d": "returned", "f": "new", "g": "vanished", "h": "retry"
    }  # fmt: skip


def test_another_parser_is_told_from_another_content() -> None:
    known = [Known("a", "v1|markdown:1", True), Known("b", "v1|markdown:1", True)]
    assert _kinds(_listing(("a", "v1|markdown:2"), ("b", "v2|markdown:1")), known) == {"a": "parser", "b": "changed"}


def test_what_was_too_new_when_it_was_read() -> None:
    known = [Known("a", "v1|markdown:1:racy-77", True), Known("b", "v1:racy-77|sql:1", True)]
    assert _kinds(_listing(("a", "v1|markdown:1"), ("b", "v1:racy-78|sql:1")), known) == {"a": "recent", "b": "recent"}


def test_what_is_read_carries_its_new_fingerprint() -> None:
    assert list(differences(_listing(("a", "2")), [Known("a", "1", True)])) == [Difference("changed", "a", "2", 1)]


def test_reread_opens_everything() -> None:
    assert _kinds(_listing(("a", "1")), [Known("a", "1", True)], reread=True) == {"a": "rebuild"}


def test_empty_listing_makes_everything_vanish() -> None:
    assert _kinds([], [Known("a", "1", True)]) == {"a": "vanished"}


def test_code_point_order_is_postgres_order() -> None:
    """The database sorts with collation C: UTF-8 bytes, which is Python's order of code points."""
    names = ["B", "a", "z", "é", "中", "😀"]
    found = _kinds(_listing(*((n, "1") for n in names)), [Known(n, "1", True) for n in names])
    assert set(found.values()) == {"unchanged"}


@pytest.mark.parametrize("uris", [("b", "a"), ("a", "a")])
def test_a_listing_out_of_order_is_refused(uris: tuple[str, str]) -> None:
    with pytest.raises(Terminal, match="sorted"):
        list(differences(_listing((uris[0], "1"), (uris[1], "1")), []))

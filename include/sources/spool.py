"""Sorts pairs outside of memory: a database's collation is not code point order, and a listing may have any length."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from include.errors import ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_CACHE_KIB = 8192


def in_order(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """All pairs by code points, once the last has come; repeats stay.

    :raises ServiceUnavailable: no room for temporary files.
    """
    try:
        spool = sqlite3.connect("", isolation_level=None, check_same_thread=False)  # a private file that closing removes
        spool.execute(f"pragma cache_size = -{_CACHE_KIB}")
        spool.execute("pragma temp_store = file")
        spool.execute("create table pair (first text, second text)")
        spool.execute("begin")
        spool.executemany("insert into pair values (?, ?)", pairs)
    except sqlite3.Error as error:
        raise _no_room(error) from error
    return _sorted(spool)


def _sorted(spool: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    with closing(spool):
        try:
            yield from spool.execute("select first, second from pair order by first, second")  # UTF-8 bytes: code points
        except sqlite3.Error as error:
            raise _no_room(error) from error


def _no_room(error: sqlite3.Error) -> ServiceUnavailable:
    return ServiceUnavailable("cannot sort the listing in temporary files", str(error), "Make room, or set TMPDIR")

"""Sorts a listing outside of memory: stores and databases have orders of their own, and it may have any length."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, TypeVar

from include.errors import ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Row = TypeVar("Row", bound=tuple[str | int, ...])

_CACHE_KIB = 8192


def in_order(rows: Iterable[Row], columns: int) -> Iterator[Row]:
    """All rows by the code points of their first two columns, once the last has come; repeats stay.

    :param columns: of a row, two or more.
    :raises ServiceUnavailable: no room for temporary files.
    """
    try:
        spool = sqlite3.connect("", isolation_level=None, check_same_thread=False)  # a private file that closing removes
        spool.execute(f"pragma cache_size = -{_CACHE_KIB}")
        spool.execute("pragma temp_store = file")
        spool.execute(f"create table row ({', '.join(f'c{n}' for n in range(columns))})")
        spool.execute("begin")
        spool.executemany(f"insert into row values ({', '.join('?' * columns)})", rows)
    except sqlite3.Error as error:
        raise _no_room(error) from error
    return _sorted(spool)


def _sorted(spool: sqlite3.Connection) -> Iterator[Row]:
    with closing(spool):
        try:
            yield from spool.execute("select * from row order by c0, c1")  # UTF-8 bytes: code points
        except sqlite3.Error as error:
            raise _no_room(error) from error


def _no_room(error: sqlite3.Error) -> ServiceUnavailable:
    return ServiceUnavailable("cannot sort the listing in temporary files", str(error), "Make room, or set TMPDIR")

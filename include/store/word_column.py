"""How a chunk's words travel into their column: packed entries, or a sparsevec in generations of earlier releases."""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from typing import TYPE_CHECKING, Any

import numpy as np
from pgvector import SparseVector
from psycopg.adapt import Dumper
from psycopg.postgres import types
from psycopg.pq import Format

from include.lexical.terms import MAX_TERM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg import Cursor

    from include.store.pool import Connection

_INT4 = types["int4"]
_HEADER = Struct("!iiIii")  # of an array on the wire: dimensions, nulls, type; length and lower bound of the one dimension


class _EntriesDumper(Dumper):
    """psycopg writes a list of integers one by one, 60 µs for the words of a chunk; this takes 8."""

    format = Format.BINARY
    oid = _INT4.array_oid

    def dump(self, obj: Sequence[int]) -> bytes:
        wire = np.empty((len(obj), 2), dtype=">i4")
        wire[:, 0] = 4  # bytes of the integer that follows
        wire[:, 1] = obj
        return _HEADER.pack(1, 0, _INT4.oid, len(obj), 1) + wire.tobytes()


def words_cursor(connection: Connection) -> Cursor[Any]:
    """A cursor whose COPY takes packed words quickly."""
    cursor = connection.cursor()
    cursor.adapters.register_dumper(None, _EntriesDumper)
    return cursor


def as_column(words: Mapping[int, float] | Sequence[int] | None) -> SparseVector | Sequence[int] | None:
    """Packed entries as they are; weights as pgvector takes them, which numbers terms from 0."""
    if isinstance(words, Mapping):
        return SparseVector({term - 1: weight for term, weight in words.items()}, MAX_TERM)
    return words

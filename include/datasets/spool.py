"""Rows on their way into the database, in a file: finding them takes minutes, a transaction should take seconds."""

from __future__ import annotations

import pickle
import tempfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, TypeVar

from include.errors import ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Row = TypeVar("Row")


@contextmanager
def spooled(rows: Iterable[Row]) -> Iterator[Iterator[Row]]:
    """All rows, once the last has come, from a private file that goes with the end of the block.

    :raises ServiceUnavailable: no room for temporary files.
    """
    with tempfile.TemporaryFile() as file:
        for row in rows:
            _write(file, row)
        file.seek(0)
        yield _read(file)


def _write(file: IO[bytes], row: object) -> None:
    try:
        pickle.dump(row, file)
    except OSError as error:
        raise ServiceUnavailable("cannot keep rows in a temporary file", str(error), "Make room, or set TMPDIR") from error


def _read(file: IO[bytes]) -> Iterator[Row]:
    while True:
        try:
            yield pickle.load(file)
        except EOFError:
            return

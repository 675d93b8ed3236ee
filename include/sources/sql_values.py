"""What databases return, as ids, update times and JSON: the same value always gives the same text."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from uuid import UUID

from include.sources.source import Unreadable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.sources.source import Json

_LARGEST_EXPONENT = 308  # of a float; an integer beyond it becomes a string
_LONGEST_STAMP = 64  # characters; a longer one is hashed
# A row written twice within one tick of the clock that stamps it keeps its stamp: MySQL's DATETIME and SQLite's
# CURRENT_TIMESTAMP tick once a second. The same windows as for local files.
_RACY = dt.timedelta(milliseconds=50)
_RACY_WHOLE_SECONDS = dt.timedelta(seconds=2)
_EPOCHS = (1, 10**3, 10**6, 10**9)  # a second, in the units in which numbers count time since 1970
_EARLIEST, _LATEST = 10**9, 10**10  # seconds: 2001 to 2286; what no unit brings there is a counter
_DIGITS = re.compile(r"[1-9]\d{9,18}(\.\d{1,9})?")


def plain(value: Any) -> Json:
    """A value as JSON: times in ISO 8601, exact numbers as numbers where nothing is lost.

    :raises Unreadable: bytes, or a type that has no JSON form.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Decimal):
        return _number(value)
    if isinstance(value, dt.datetime | dt.date | dt.time | UUID):
        return _text(value)
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = [plain(item) for item in value]
        return sorted(items, key=json.dumps) if isinstance(value, set | frozenset) else items
    if isinstance(value, bytes | bytearray | memoryview):
        raise Unreadable("is bytes; cast it to text in source.query")
    if str(value) == object.__repr__(value):  # an address, another one in each run
        raise Unreadable(f"is a {type(value).__name__}; cast it to text in source.query")
    return str(value)


def row_id(value: Any) -> str | int | None:
    """An id as a string or integer; what else there is stays for :func:`include.sources.rows.identifier` to refuse."""
    if isinstance(value, str | int) or value is None:
        return value
    found = plain(value)
    return found if isinstance(found, str) else str(value)


def stamp(value: Any) -> str:
    """An update time, or any other value that changes with its row, as text; times with a zone in UTC."""
    if isinstance(value, memoryview | bytearray):
        value = bytes(value)
    text = value.hex() if isinstance(value, bytes) else _text(value)
    return text if len(text) <= _LONGEST_STAMP else blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def racy(value: Any, clock: Sequence[dt.datetime]) -> bool:
    """Whether the row may still change without its stamp changing, because the stamp's tick is not over.

    :param clock: what time it is, as each clock that may have stamped the row puts it, with and without zone.
    """
    if isinstance(value, str):
        value = _parsed(value)
    if isinstance(value, dt.datetime):
        window = _RACY if value.microsecond else _RACY_WHOLE_SECONDS
        return any(abs(now - value) <= window for now in clock if (now.tzinfo is None) == (value.tzinfo is None))
    if isinstance(value, dt.date):
        return any(value in (now.date(), (now - _RACY_WHOLE_SECONDS).date()) for now in clock)
    return isinstance(value, int | float | Decimal) and _racy_number(value, clock)


def _racy_number(value: int | float | Decimal, clock: Sequence[dt.datetime]) -> bool:
    """Whether the number is a time of this moment: seconds since 1970, or thousandths, millionths, billionths of them."""
    if not math.isfinite(value):
        return False
    for unit in _EPOCHS:
        if _EARLIEST * unit <= value < _LATEST * unit:
            window = (_RACY if value % unit or value % 1 else _RACY_WHOLE_SECONDS).total_seconds()
            seconds = float(value / unit)
            return any(abs(now.timestamp() - seconds) <= window for now in clock if now.tzinfo)
    return False


def clocks(database_now: Any) -> list[dt.datetime]:
    """The forms in which now may stand in a column, from what the database says it is and from this machine."""
    now = _parsed(database_now) if isinstance(database_now, str) else database_now
    found = [dt.datetime.now(dt.UTC)]
    if isinstance(now, dt.datetime):
        found.append(now)
    plain_times = [moment.replace(tzinfo=None) for moment in found]
    in_utc = [moment.astimezone(dt.UTC).replace(tzinfo=None) for moment in found if moment.tzinfo]
    return [moment for moment in found if moment.tzinfo] + plain_times + in_utc


def _parsed(text: str) -> dt.datetime | dt.date | Decimal | None:
    if _DIGITS.fullmatch(text):
        return Decimal(text)
    try:
        return dt.date.fromisoformat(text) if len(text) <= 10 else dt.datetime.fromisoformat(text)
    except ValueError:
        return None


def _text(value: Any) -> str:
    if isinstance(value, dt.datetime):
        return (value.astimezone(dt.UTC) if value.tzinfo else value).isoformat()
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return str(value)


def _number(value: Decimal) -> int | float | str:
    if value.is_finite() and value == value.to_integral_value() and value.adjusted() <= _LARGEST_EXPONENT:
        return int(value)  # a float of 16 digits and more is written with an exponent or ".0": another text
    number = float(value)
    return number if math.isfinite(number) and Decimal(repr(number)) == value else str(value)

"""Where the models of searches run in this process: on the best device that there is, or on the one that was named."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_named: list[str] = []


def device() -> str:
    """Its name as torch has it: ``cpu``, ``cuda:0``, ``mps``."""
    if _named:
        return _named[-1]
    from sentence_transformers.util import get_device_name

    return str(get_device_name())


def nearest(wanted: str) -> str:
    """The name of the device that is wanted (``cpu``, ``cuda``), where there is one; else of what there is."""
    if wanted == "cpu":
        return wanted
    from sentence_transformers.util import get_device_name

    return str(get_device_name())


@contextmanager
def on_device(name: str) -> Iterator[None]:
    """Models run there meanwhile, in all threads of the process; one that was loaded elsewhere is loaded once more."""
    _named.append(name)
    try:
        yield
    finally:
        _named.pop()

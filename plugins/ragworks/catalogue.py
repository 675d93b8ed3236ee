"""Collection files as DAGs need them: the sound ones, and for each of the others what is wrong with it.

A DAG file that raises takes away every DAG in it, so nothing raised by a single collection file may pass.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.collection_file import collection_files, read_collection
from include.errors import BadConfiguration
from ragworks.schedules import schedule_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from include.collection_file import Collection
    from include.config import Settings


@dataclass(frozen=True, slots=True)
class BrokenFile:
    """A collection file that cannot be used.

    :param name: for its DAG; made of the file's name and used by no other.
    """

    path: Path
    name: str
    error: BadConfiguration


def read_catalogue(settings: Settings) -> tuple[list[Collection], list[BrokenFile]]:
    """All collections, and the files that are none."""
    read = {path: _read(path) for path in collection_files(settings)}
    sound = {path: found for path, found in read.items() if not isinstance(found, BadConfiguration)}
    errors = {path: found for path, found in read.items() if isinstance(found, BadConfiguration)}
    for path, collection in list(sound.items()):
        others = _rivals(path, collection.name, read)
        if others:
            del sound[path]
            errors[path] = BadConfiguration(
                f"{path}: the name {collection.name!r} is taken",
                f"{', '.join(other.name for other in others)} stands for it as well",
                "Give each collection a name of its own, best the name of its file",
            )
    return list(sound.values()), _named(errors, {collection.name for collection in sound.values()})


def _read(path: Path) -> Collection | BadConfiguration:
    try:
        collection = read_collection(path)
        schedule_of(collection)
    except BadConfiguration as error:
        return error
    except Exception as error:  # whatever else it is: see the module's docstring
        why = " ".join(f"{type(error).__name__}: {error}".split())
        return BadConfiguration(str(path), why, "See docs/collections.md for every key")
    return collection


def _rivals(path: Path, name: str, read: Mapping[Path, Collection | BadConfiguration]) -> list[Path]:
    """Other files that commands would take for this name: the file called so comes first, then who declares it."""
    called_so = [other for other in read if other != path and other.stem == name]
    if called_so or path.stem == name:
        return called_so
    return [
        other
        for other, found in read.items()
        if other != path and not isinstance(found, BadConfiguration) and found.name == name
    ]


def _named(errors: Mapping[Path, BadConfiguration], taken: set[str]) -> list[BrokenFile]:
    broken = []
    for path in sorted(errors):
        stem = re.sub(r"[^A-Za-z0-9_.-]", "_", path.stem)[:80]
        name, number = stem, 1
        while name in taken:
            number += 1
            name = f"{stem}_{number}"
        taken.add(name)
        broken.append(BrokenFile(path, name, errors[path]))
    return broken

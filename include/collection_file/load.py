"""From the files of a folder to collections, with what a mistake is and what would be right."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ValidationError

from include.collection_file.collection import AssetSchedule, Collection
from include.collection_file.indexing import (
    Chunking,
    Embedding,
    Generations,
    Index,
    Lexical,
    NearDuplicates,
    Privacy,
    Validation,
)
from include.collection_file.monitoring import Monitoring, Policies
from include.collection_file.questions import Answers, Guardrails, QueryLog, Retrieval
from include.collection_file.sources import FilesSource, JsonlSource, SqlSource
from include.collection_file.training import Training
from include.errors import BadConfiguration
from include.mistakes import explain_mistake

if TYPE_CHECKING:
    from pathlib import Path

    from include.config import Settings


def collection_files(settings: Settings) -> list[Path]:
    """Every collection file, in name order; an absent folder is an empty list."""
    return sorted(p for p in settings.collections_dir.glob("*.y*ml") if p.suffix in (".yaml", ".yml"))


def collection_names(settings: Settings) -> list[str]:
    """The names that the collection files declare, sorted; a file without one counts by its own name."""
    return sorted({_declared_name(path) or path.stem for path in collection_files(settings)})


def load_collection(settings: Settings, name: str) -> Collection:
    """The collection called ``name``.

    :raises BadConfiguration: no file defines it, or the file is refused.
    """
    names = {path: _declared_name(path) or path.stem for path in collection_files(settings)}
    for path in sorted(names, key=lambda p: p.stem != name):  # the file of that name first
        if names[path] == name:
            return read_collection(path)
    for path in names:
        if path.stem == name:
            declared = read_collection(path).name  # first of all its mistakes, of which the name may be one
            raise BadConfiguration(f"{path}: name", f"it is {declared!r}, not {name!r}", f"Run it by the name {declared}")
    known = ", ".join(names.values()) or "none"
    close = difflib.get_close_matches(name, list(names.values()), n=1)
    hint = f"Did you mean {close[0]}?" if close else f"Add {settings.collections_dir}/{name}.yaml"
    raise BadConfiguration(f"unknown collection {name!r}", f"{settings.collections_dir} has: {known}", hint)


def read_collection(path: Path) -> Collection:
    """Parse and check one collection file.

    :raises BadConfiguration: with file, key, what is wrong and what would be right.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: an impossible date, an invalid byte
        raise BadConfiguration(str(path), f"not readable as YAML ({_one_line(error)})", "Fix the file") from error
    if not isinstance(raw, dict):
        raise BadConfiguration(str(path), "not a mapping of settings", "Start it with 'name: …' and 'source: …'")
    try:
        return Collection.model_validate(raw)
    except ValidationError as error:
        problems = "; ".join(_explain(dict(e)) for e in error.errors())
        raise BadConfiguration(str(path), problems, "See docs/collections.md for every key") from None


def _declared_name(path: Path) -> str | None:
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    name = raw.get("name") if isinstance(raw, dict) else None
    return name if isinstance(name, str) else None


_SECTIONS: dict[str, type[BaseModel]] = {
    "": Collection, "chunking": Chunking, "embedding": Embedding, "index": Index, "validation": Validation,
    "lexical": Lexical, "retrieval": Retrieval, "answers": Answers, "guardrails": Guardrails, "query_log": QueryLog,
    "generations": Generations, "near_duplicates": NearDuplicates, "privacy": Privacy,
    "training": Training, "alternatives": Embedding, "monitoring": Monitoring, "policy": Policies,
    "files": FilesSource, "jsonl": JsonlSource, "sql": SqlSource, "AssetSchedule": AssetSchedule,
}  # fmt: skip


def _explain(error: dict[str, Any]) -> str:
    location = [str(part) for part in error["loc"]]
    shown = [p for i, p in enumerate(location) if not (i == 1 and location[0] in ("source", "schedule"))]
    section = _SECTIONS.get(location[-2] if len(location) > 1 else "", Collection)
    return explain_mistake(error, ".".join(shown) or "file", section)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())

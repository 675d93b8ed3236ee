"""Full weights in 8 or 4 bits as a folder: written as bitsandbytes writes them, without a GPU and without bitsandbytes.

So vLLM and transformers load the folder on a GPU (`quantization_config` says how), and :func:`load_reduced` anywhere.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from include.embedding.models import read_json
from include.errors import BadConfiguration
from include.registry.artifacts import hashes
from include.registry.stores import MANIFEST
from include.training.llm.bases import find_base, load_base
from include.training.llm.merging import whole
from include.training.llm.quantised import BLOCK, NF4

if TYPE_CHECKING:
    from pathlib import Path

_KEPT = (".json", ".jinja", ".model", ".txt")
_SETTINGS: dict[str, dict[str, Any]] = {
    "int8": {"load_in_8bit": True, "load_in_4bit": False, "llm_int8_threshold": 6.0},
    "nf4": {
        "load_in_8bit": False, "load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": False,
        "bnb_4bit_compute_dtype": "bfloat16", "bnb_4bit_quant_storage": "uint8",
    },
}  # fmt: skip


def write_reduced(full: Path, packing: str, target: Path) -> Path:
    """Pack the linear layers of a model, as int8 or nf4, into a folder that is written whole or not at all.

    :param full: a folder of full weights, such as base and adapter merged.
    :raises BadConfiguration: ``target`` is there already, or the weights are quantised already.
    """
    from safetensors.torch import save_file

    from include.serving.llm.packed import packable

    base = find_base(str(full))
    if base.stored:
        raise BadConfiguration(f"export of {full}", f"its weights are {base.quantisation} already", "Export the full model")
    model = load_base(base)
    layers = dict(packable(model))
    tensors: dict[str, Any] = {}
    for name, tensor in model.state_dict().items():
        layer, _, part = name.rpartition(".")
        packed = _packed(tensor, packing, name) if part == "weight" and layer in layers else {name: tensor}
        tensors |= {key: value.detach().cpu().contiguous() for key, value in packed.items()}
    with whole(target) as staged:
        save_file(_untied(model, tensors), staged / "model.safetensors", {"format": "pt"})
        for path in sorted(full.iterdir()):
            if path.suffix in _KEPT and path.name not in ("config.json", "model.safetensors.index.json", MANIFEST):
                shutil.copyfile(path, staged / path.name)
        config = read_json(full, "config.json")
        config["quantization_config"] = {"quant_method": "bitsandbytes", **_SETTINGS[packing]}
        (staged / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True), encoding="utf-8")
        facts = {**read_json(full, MANIFEST), "family": "llm", "kind": packing, "full": base.fingerprint}
        manifest = {**facts, "files": hashes(staged)}
        (staged / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True), encoding="utf-8")
    return target


def load_reduced(folder: Path) -> Any:
    """The model of such a folder, on the CPU, with its layers packed.

    :raises BadConfiguration: it is no folder that :func:`write_reduced` made.
    """
    import torch
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModelForCausalLM

    from include.serving.llm.packed import PackedLinear, packable

    kind = read_json(folder, MANIFEST).get("kind")
    if kind not in _SETTINGS:
        raise BadConfiguration(f"folder {folder}", f"it is {kind!r}, not int8 or nf4", "Make it with: ragworks export-llm")
    config = AutoConfig.from_pretrained(str(folder), local_files_only=True)
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=config.dtype or torch.float32)
    tensors = load_file(folder / "model.safetensors")
    for name, layer in packable(model):
        parent, _, last = name.rpartition(".")
        largest = tensors.pop(f"{name}.SCB" if kind == "int8" else f"{name}.weight.absmax")
        packed = PackedLinear(
            kind,
            (layer.out_features, layer.in_features),
            tensors.pop(f"{name}.weight"),
            largest,
            layer.bias,
            layer.weight.dtype,
        )
        setattr(model.get_submodule(parent), last, packed)
    rest = {key: value for key, value in tensors.items() if "quant_" not in key and not key.endswith("weight_format")}
    missing, unexpected = model.load_state_dict(rest, strict=False)
    lost = [name for name in missing if not name.endswith((".weight", ".largest"))]
    if unexpected or lost:
        raise BadConfiguration(f"folder {folder}", f"its weights do not fit: {[*unexpected, *lost][0]}", "Export it again")
    model.tie_weights()
    return model.eval()


def reduced_gap(full: Path, reduced: Path) -> dict[str, float]:
    """How far the logits of a reduced folder are from the full weights', on the prompts of the proofs: measured, not judged.

    :return: as :func:`include.training.llm.probes.distance`; computed on the CPU, in the dtype of the files.
    """
    from include.training.llm.bases import load_tokenizer
    from include.training.llm.probes import distance, logits_of, probe_tokens

    base = find_base(str(full))
    probes = probe_tokens(load_tokenizer(base))
    reference = logits_of(load_base(base), probes)
    return distance(reference, logits_of(load_reduced(reduced), probes))


def _packed(weight: Any, packing: str, name: str) -> dict[str, Any]:
    """The tensors that bitsandbytes keeps of one matrix (its functional.QuantState and nn.Int8Params)."""
    import torch

    from include.serving.llm.packed import pack_int8, pack_nf4

    if packing == "int8":
        packed, largest = pack_int8(weight)
        layer = name.removesuffix(".weight")
        return {name: packed, f"{layer}.SCB": largest, f"{layer}.weight_format": torch.tensor(0, dtype=torch.uint8)}
    packed, largest = pack_nf4(weight)
    state = {
        "quant_type": "nf4",
        "blocksize": BLOCK,
        "dtype": str(weight.dtype).removeprefix("torch."),
        "shape": [*weight.shape],
    }
    return {
        name: packed, f"{name}.absmax": largest, f"{name}.quant_map": torch.tensor(NF4),
        f"{name}.quant_state.bitsandbytes__nf4": torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8),
    }  # fmt: skip


def _untied(model: Any, tensors: dict[str, Any]) -> dict[str, Any]:
    """Without the second name of a matrix that is used twice, which safetensors refuses."""
    tied = bool(getattr(model.config, "tie_word_embeddings", False))
    return {name: tensor for name, tensor in tensors.items() if not (tied and name == "lm_head.weight")}

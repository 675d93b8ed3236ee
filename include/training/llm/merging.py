"""Makes one adapter of several, and full weights of base and adapter; merge_rules refuses what would come out wrong."""

from __future__ import annotations

import json
import logging
import shutil
import uuid
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from include.embedding.models import read_json
from include.errors import BadConfiguration
from include.registry.artifacts import hashes
from include.registry.stores import MANIFEST
from include.training.llm.adapters import CONFIG, WEIGHTS, read_adapter, write_manifest
from include.training.llm.bases import load_base
from include.training.llm.merge_rules import base_refusals, refusals

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from include.training.llm.adapters import Adapter
    from include.training.llm.bases import Base
    from include.training.llm.merge_rules import MergePlan, Refusal

logger = logging.getLogger(__name__)

MERGED = "default"  # peft's name of the adapter that a folder holds
_KEPT = (".json", ".jinja", ".model", ".txt")  # of a base: tokenizer, template, generation settings
_REWRITTEN = {"config.json", "generation_config.json", "model.safetensors.index.json", MANIFEST}


def merge_adapters(base: Base, adapters: Sequence[Adapter], plan: MergePlan, target: Path) -> Adapter:
    """Make one adapter of several and write it to ``target``, whole or not at all. The base's weights are not read.

    The same adapters and plan give the same bytes: what dare draws comes from the plan's seed.

    :raises BadConfiguration: the merge is refused; every reason is named.
    """
    _stop(f"merge of {len(adapters)} adapters by {plan.method}", refusals(adapters, plan))
    _stop(f"merge into an adapter of {base.name}", [one for part in adapters for one in base_refusals(base, part, tied=False)])
    import torch

    model = with_adapters(skeleton(base), adapters)
    names = [f"part{number}" for number in range(len(adapters))]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        model.add_weighted_adapter(
            names, list(plan.weights), MERGED, combination_type=plan.method, svd_rank=plan.rank or None,
            svd_full_matrices=False, density=plan.density,
        )  # fmt: skip
    with whole(target) as staged:
        save_adapter(model, MERGED, staged)
        parts = [
            {"fingerprint": part.fingerprint, "weight": weight} for part, weight in zip(adapters, plan.weights, strict=True)
        ]
        trained_on = replace(base, quantisation=adapters[0].quantisation)
        write_manifest(staged, trained_on, merge={**asdict(plan), "weights": list(plan.weights), "parts": parts})
    logger.info("merged %d adapters by %s into %s", len(adapters), plan.method, target)
    return read_adapter(target)


def merge_into_base(base: Base, adapter: Adapter, target: Path, *, device: str = "cpu") -> Path:
    """Add an adapter to the weights of its base, in the base's own precision: a model that any server loads.

    An adapter that was trained on a quantised base is added to the full one; proofs.quantised_gap says what that changes.

    :param target: a folder that is not there yet; written whole or not at all.
    :raises BadConfiguration: refused; every reason is named.
    """
    full = base.in_full()
    tied = bool(read_json(full.folder, "config.json").get("tie_word_embeddings"))
    _stop(f"merge of {adapter.folder.name} into {base.name}", base_refusals(full, adapter, tied=tied))
    model = with_adapters(load_base(full, device=device), [adapter])
    try:
        merged = model.merge_and_unload(safe_merge=True)
    except ValueError as error:  # NaN or infinite weights
        raise BadConfiguration(
            f"merge of {adapter.folder.name} into {base.name}", str(error), "Train again from a good checkpoint"
        ) from error
    with whole(target) as staged:
        merged.save_pretrained(staged)
        for path in sorted(full.folder.iterdir()):
            if path.suffix in _KEPT and path.name not in _REWRITTEN:
                shutil.copyfile(path, staged / path.name)
        facts = {
            "family": "llm",
            "kind": "merged",
            "base": full.fingerprint,
            "adapter": adapter.fingerprint,
            "trained_on": adapter.base,
        }
        manifest = {**facts, "dtype": str(merged.dtype).removeprefix("torch."), "files": hashes(staged)}
        (staged / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True), encoding="utf-8")
    return target


def skeleton(base: Base) -> Any:
    """The base's modules with weights that take no memory: enough to combine adapters of a model of any size.

    In float32 whatever the base's dtype: peft makes a merged adapter in the dtype of the module that it is for, and one of
    bfloat16 would round what ``cat`` copies there (by 0.24 % of the update, measured).
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(str(base.folder), local_files_only=True)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            empty = torch.zeros(1, dtype=weight.dtype).expand(weight.shape)
            setattr(module, name, torch.nn.Parameter(empty, requires_grad=False))
    return model


def with_adapters(model: Any, adapters: Sequence[Adapter]) -> Any:
    """The model with these adapters under the names part0, part1, …; the first is active. Their weights become float32.

    Modules are named by their whole paths, as the weights files have them: peft would else take the choice of layers from the
    first adapter for all.

    :raises BadConfiguration: an adapter has modules that the model lacks.
    """
    loaded: Any = model
    for number, adapter in enumerate(adapters):
        loaded = attach(loaded, adapter, f"part{number}")
    return loaded.eval()


def attach(model: Any, adapter: Adapter, name: str) -> Any:
    """The model, or the one of peft that it already is, with one more adapter under a name.

    :raises BadConfiguration: the adapter has modules that the model lacks.
    """
    from peft import LoraConfig, PeftModel

    config = LoraConfig.from_pretrained(str(adapter.folder))
    config.target_modules = set(adapter.ranks)
    config.exclude_modules = config.layers_to_transform = config.layers_pattern = None
    config.inference_mode = True
    try:
        if not isinstance(model, PeftModel):
            return PeftModel.from_pretrained(model, str(adapter.folder), adapter_name=name, config=config)
        model.add_adapter(name, config)
        model.load_adapter(str(adapter.folder), name)
    except (ValueError, RuntimeError) as error:
        why = f"it does not fit the model ({str(error).splitlines()[0]})"
        raise BadConfiguration(f"adapter {adapter.folder.name}", why, "Take the base that it was trained on") from error
    return model


def save_adapter(model: Any, name: str, folder: Path) -> None:
    """Write weights and configuration of one adapter; the same one gives the same bytes (peft writes a set in any order)."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    weights = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    save_file(
        {key: value.detach().cpu().contiguous() for key, value in sorted(weights.items())}, folder / WEIGHTS, {"format": "pt"}
    )
    config = {
        key: sorted(value) if isinstance(value, set) else value for key, value in model.peft_config[name].to_dict().items()
    }
    config |= {"inference_mode": True, "base_model_name_or_path": None}  # ragworks.json names the base, exactly
    (folder / CONFIG).write_text(json.dumps(config, indent=1, sort_keys=True, default=str), encoding="utf-8")


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """A folder beside ``target`` that takes its place when all went well.

    :raises BadConfiguration: ``target`` is there already.
    """
    if target.exists():
        raise BadConfiguration(f"folder {target}", "it exists already", "Choose another place, or remove it")
    staged = target.with_name(f".{target.name}-{uuid.uuid4().hex}")
    staged.mkdir(parents=True)
    try:
        yield staged
        staged.rename(target)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _stop(what: str, reasons: Sequence[Refusal]) -> None:
    if reasons:
        why = "; ".join(dict.fromkeys(one.why for one in reasons))
        raise BadConfiguration(what, why, ". ".join(dict.fromkeys(one.fix for one in reasons)))

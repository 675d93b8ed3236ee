"""What leaves for other servers: valid manifests, whole files, and fewer bits that are read back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from include.cli.main import build_parser
from include.embedding.models import read_json
from include.errors import BadConfiguration, BadData
from include.registry.artifacts import hashes
from include.registry.llm_models import TrainedLlm
from include.serving.llm.export import already_merged, export_files, export_merged, manifests, profile
from include.serving.llm.manifests import Placing, refusals, vllm_arguments
from include.serving.llm.packed import PackedLinear, pack_in_place, pack_nf4, unpack_nf4
from include.serving.llm.reduced import load_reduced
from include.training.llm.adapters import read_adapter
from include.training.llm.bases import find_base, load_base, load_tokenizer
from include.training.llm.probes import distance, logits_of, probe_tokens
from include.training.llm.quantised import nf4_round_trip
from tests.training.llm.tiny import make_adapter, make_base

PLACING = Placing("help_desk", "vllm/vllm-openai:v0.11.0", "ragworks:0.1.0", 0, "staging")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[int, TrainedLlm]:
    folder = tmp_path_factory.mktemp("exported")
    base = make_base(folder / "base")
    made = [make_adapter(base, folder / str(rank), seed=rank, rank=rank) for rank in (4, 12)]
    return {n: TrainedLlm(find_base(str(base)), read_adapter(one)) for n, one in enumerate(made, 2)}


@pytest.mark.parametrize("merged", [False, True])
def test_manifests(models: dict[int, TrainedLlm], merged: bool) -> None:
    chosen = {3: models[3]} if merged else models
    placing = replace(PLACING, merged=merged, gpus=2 if merged else 1, profile=profile("l4") if merged else None)
    made = manifests("help_desk", chosen, placing)
    for manifest in made:
        kubernetes_validate.validate(manifest, "1.33", strict=True)
    deployment, service, budget = made
    pod = deployment["spec"]["template"]
    labels = pod["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"] == labels
    assert budget["spec"]["selector"]["matchLabels"] == labels
    (vllm,), (exporter,) = pod["spec"]["containers"], pod["spec"]["initContainers"]
    assert vllm["resources"]["limits"]["nvidia.com/gpu"] == str(placing.gpus)
    arguments = build_parser().parse_args(exporter["command"][3:] + exporter["args"])
    assert (arguments.versions, arguments.collection) == (sorted(chosen), "help_desk")
    assert dict(arguments.expect) == {version: model.adapter.fingerprint for version, model in chosen.items()}
    assert {"name": "RAGWORKS_ENV", "value": "staging"} in exporter["env"]
    given = vllm["args"]
    if merged:
        assert (given[1], given[3]) == (arguments.to, "ragworks-help_desk@3")
        assert pod["spec"]["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-L4"}
    else:
        modules = [json.loads(one) for one in given[given.index("--lora-modules") + 1 :]]
        assert [one["name"] for one in modules] == ["ragworks-help_desk@2", "ragworks-help_desk@3"]
        assert given[given.index("--max-lora-rank") + 1] == "16"
        assert all(one["path"].startswith(f"{arguments.to}/adapters/help_desk-") for one in modules)
    for variable in (*vllm["env"], *exporter["env"]):
        if any(word in variable["name"] for word in ("DATABASE", "KEY", "TOKEN")):
            assert set(variable["valueFrom"]) == {"secretKeyRef"}


def test_what_vllm_does_not_serve(models: dict[int, TrainedLlm]) -> None:
    plain = models[2].adapter
    assert refusals({2: plain}, merged=False) == []
    dora = replace(plain, dora=True)
    other = replace(plain, base="llm:other:none")
    large = replace(plain, ranks=dict.fromkeys(plain.ranks, 1024))
    for adapters, says in (({2: dora}, "DoRA"), ({2: plain, 3: other}, "different bases"), ({2: large}, "beyond 512")):
        assert any(says in reason for reason in refusals(adapters, merged=False))
    assert refusals({2: dora}, merged=True) == []
    with pytest.raises(BadConfiguration, match="of one version alone"):
        manifests("help_desk", models, replace(PLACING, merged=True))
    with pytest.raises(BadConfiguration, match="has l4, a100, any"):
        profile("h200")
    assert "--tensor-parallel-size" in vllm_arguments("help_desk", {2: plain}, merged=True, gpus=2)


def test_files(models: dict[int, TrainedLlm], tmp_path: Path) -> None:
    """Base and adapters, as vLLM's manifests name them; again changes nothing."""
    found = export_files("help_desk", models, tmp_path / "models")
    assert export_files("help_desk", models, tmp_path / "models") == found
    assert find_base(found["base"]).fingerprint == models[2].base.fingerprint
    for version, model in models.items():
        assert read_adapter(tmp_path / "models" / "adapters" / f"help_desk-{version}").fingerprint == model.adapter.fingerprint


def test_files_of_another_model_are_replaced_or_refused(models: dict[int, TrainedLlm], tmp_path: Path) -> None:
    """Weights of one shape have one size: content decides. And what is edited there is not edited in the registry."""
    target = tmp_path / "models"
    found = export_files("help_desk", {2: models[2]}, target)
    weights = Path(found["2"]) / "adapter_model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    assert read_adapter(models[2].adapter.folder, fingerprint=models[2].adapter.fingerprint)
    base = Path(found["base"]) / "model.safetensors"
    stale = bytearray(base.read_bytes())
    stale[-1] ^= 1
    base.unlink()
    base.write_bytes(stale)
    assert export_files("help_desk", {2: models[2]}, target) == found
    assert read_adapter(Path(found["2"]), fingerprint=models[2].adapter.fingerprint)
    assert hashes(base.parent) == hashes(models[2].base.folder)
    (base.parent / "model-00002.safetensors").write_bytes(b"left over")
    with pytest.raises(BadData, match="another base"):
        export_files("help_desk", {2: models[2]}, target)


@pytest.mark.parametrize("packing", ["int8", "nf4"])
def test_fewer_bits(models: dict[int, TrainedLlm], packing: str, tmp_path: Path) -> None:
    """The merged model in 8 or 4 bits: smaller, read back as it was written, and no further off than rounding explains."""
    assert export_merged(models[2], tmp_path / "full")["passed"]
    told = export_merged(models[2], tmp_path / packing, packing=packing)["reduced"]
    assert already_merged(models[2], tmp_path / packing)
    with pytest.raises(BadData, match=models[2].adapter.fingerprint):
        already_merged(models[3], tmp_path / packing)
    full = load_base(find_base(str(tmp_path / "full")))
    probes = probe_tokens(load_tokenizer(models[2].base))
    reference = logits_of(full, probes)
    written, made = logits_of(load_reduced(tmp_path / packing), probes), load_base(find_base(str(tmp_path / "full")))
    pack_in_place(made, packing)
    assert distance(logits_of(made, probes), written)["relative"] < 1e-6
    gap = distance(reference, written)
    assert told == {"packing": packing, **gap}
    assert 0 < gap["relative"] < (0.1 if packing == "int8" else 0.6)
    sizes = [(tmp_path / one / "model.safetensors").stat().st_size for one in ("full", packing)]
    assert sizes[1] < 0.8 * sizes[0]
    config = read_json(tmp_path / packing, "config.json")["quantization_config"]
    assert (config["quant_method"], config["load_in_4bit"]) == ("bitsandbytes", packing == "nf4")
    with pytest.raises(BadConfiguration, match="not int8 or nf4"):
        load_reduced(tmp_path / "full")


def test_packing_is_rounding() -> None:
    """Packed and read back is what the simulation of the format gives, also for shapes that fill no block."""
    import torch

    torch.manual_seed(0)
    for shape in ((64, 64), (7, 33), (3, 5)):
        weight = torch.randn(shape)
        packed, largest = pack_nf4(weight)
        assert torch.equal(unpack_nf4(packed, largest, shape, torch.float32), nf4_round_trip(weight, double=False))
    layer = torch.nn.Linear(48, 20)
    given = torch.randn(2, 48)
    for packing, near in (("int8", 0.02), ("nf4", 0.3)):
        made: Any = PackedLinear.of(layer, packing)(given)
        assert float((made - layer(given)).detach().abs().max()) < near

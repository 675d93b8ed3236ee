from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from include.errors import BadConfiguration
from include.training.llm.estimate import GIB, Workload, estimate, head_bytes, layer_bytes
from include.training.llm.fitting import Device, fits
from include.training.llm.shapes import ModelShape, shape_of

# Model types with three matrices in the feed-forward part and rotary positions.
KNOWN = ("llama", "mistral", "qwen2", "qwen3", "phi3", "gemma2", "granite", "smollm3", "olmo2")
# Llama 3.1 8B: its published config.json, and its 8,030,261,248 parameters.
LLAMA_8B = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False,
}  # fmt: skip
TINY = {
    "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "vocab_size": 500, "head_dim": 16,
}  # fmt: skip
H200, L4 = Device("h200", 141 * 10**9, flops=989e12), Device("l4", 24 * 10**9, flops=121e12)


def eight_billion() -> ModelShape:
    return shape_of(LLAMA_8B)


def test_the_parameters_of_a_published_model() -> None:
    assert eight_billion().parameters == 8_030_261_248


@pytest.mark.parametrize("kind", KNOWN)
def test_parameters_as_transformers_counts_them(kind: str) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(kind, **TINY)
    config.pad_token_id = None
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    exact = sum(weight.numel() for weight in model.parameters())
    assert shape_of(config.to_dict()).parameters == pytest.approx(exact, rel=0.005)  # a few norms are not counted


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_local_experts": 8}, "mixture of experts"),
        ({"intermediate_size": None}, "intermediate_size"),
        ({"vocab_size": "x"}, "vocab_size"),
    ],
)
def test_models_that_it_does_not_know_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadConfiguration, match=words):
        shape_of({**LLAMA_8B, **changes})


def test_fused_projections_have_their_own_names_and_the_same_weights() -> None:
    """Those of a model of transformers, and as many weights as apart."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model("phi3", **TINY)
    config.pad_token_id = None
    with torch.device("meta"):
        layer = AutoModelForCausalLM.from_config(config).model.layers[0]
    linears = {name.rpartition(".")[2]: m for name, m in layer.named_modules() if isinstance(m, torch.nn.Linear)}
    shape = shape_of(config.to_dict())
    assert shape.linears == {name: (m.in_features, m.out_features) for name, m in linears.items()}
    apart = replace(shape, model_type="llama")
    assert shape.linear_parameters == apart.linear_parameters
    work = Workload(batch=2, sequence=32, precision="fp32", targets=tuple(linears), device="cpu")
    assert layer_bytes(shape, work) == pytest.approx(layer_bytes(apart, replace(work, targets=tuple(apart.linears))), rel=0.05)
    assert estimate(shape, work).trainable > 0


def saved_bytes(work: Workload, layers: int) -> int:
    """What autograd really keeps for the backward pass, without parameters: each storage once."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, LlamaConfig
    from trl.trainer.utils import add_fused_lm_head

    bf16 = work.precision == "bf16"
    config = LlamaConfig(**{**TINY, "num_hidden_layers": layers})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16 if bf16 else torch.float32)
    add_fused_lm_head(model)
    if work.checkpointing:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    peft = get_peft_model(model, LoraConfig(r=work.rank, target_modules=list(work.targets), lora_dropout=work.dropout)).train()
    ids = torch.randint(0, 500, (work.batch, work.sequence))
    mask = torch.ones_like(ids)
    mask[0, : 5 * work.padded] = 0
    own = {weight.untyped_storage().data_ptr() for weight in peft.parameters()}
    kept: list[torch.Tensor] = []
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda tensor: (kept.append(tensor), tensor)[1], lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        out = peft(input_ids=ids, labels=ids, attention_mask=mask, fused_lm_head=True)
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in kept}
    del out
    return sum(size for place, size in storages.items() if place not in own)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("targets", [("q_proj", "v_proj"), Workload(1, 1).targets])
def test_activations_of_a_layer_are_those_that_autograd_keeps(precision: Any, padded: bool, targets: tuple[str, ...]) -> None:
    work = Workload(4, 48, precision=precision, rank=4, targets=targets, checkpointing=False, padded=padded, device="cpu")
    shape = shape_of({**TINY, "model_type": "llama"})
    one_more = saved_bytes(work, 3) - saved_bytes(work, 2)
    casts = 2 * 4 * sum(sum(shape.linears[name]) for name in targets) if precision == "bf16" else 0  # counted with the adapter
    assert one_more - casts == pytest.approx(layer_bytes(shape, work), rel=0.01)


def test_dropout_keeps_a_mask_and_a_copy_of_each_input() -> None:
    work = Workload(4, 48, precision="fp32", rank=4, checkpointing=False, padded=False, dropout=0.1, device="cpu")
    one_more = saved_bytes(work, 3) - saved_bytes(work, 2)
    assert one_more == pytest.approx(layer_bytes(shape_of({**TINY, "model_type": "llama"}), work), rel=0.01)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_checkpointing_keeps_the_input_of_each_layer_alone(precision: Any) -> None:
    work = Workload(4, 48, precision=precision, rank=4, padded=False, device="cpu")
    one_more = saved_bytes(work, 3) - saved_bytes(work, 2)
    assert one_more == 4 * 48 * 64 * (4 if precision == "fp32" else 2)


def test_qlora_of_eight_billion_parameters_by_its_parts() -> None:
    need = estimate(eight_billion(), Workload(4, 2048, quantisation="nf4", rank=16))
    linear = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336)
    assert need.weights == pytest.approx(
        linear * (0.5 + 0.127 / 8) + (8_030_261_248 - linear) * 2, rel=1e-4
    )  # QLoRA: 0.127 bits of scales
    assert need.trainable == 32 * 16 * (2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 14336))
    assert need.optimizer == 8 * need.trainable
    assert 10 * GIB < need.peak < 20 * GIB


def test_logits_in_full_are_the_largest_part_and_trls_head_avoids_them() -> None:
    shape, fused = eight_billion(), Workload(4, 2048)
    full = replace(fused, head="full")
    assert head_bytes(shape, full) == 12 * 4 * 2048 * 128256
    assert head_bytes(shape, full) > 20 * head_bytes(shape, fused)
    assert estimate(shape, full).head > estimate(shape, full).activations


@pytest.mark.parametrize(
    "less",
    [
        {"batch": 2},
        {"sequence": 1024},
        {"quantisation": "nf4"},
        {"checkpointing": True},
        {"padded": False},
        {"rank": 8},
        {"targets": ("q_proj",)},
        {"method": "sft"},
    ],
)
def test_every_saving_saves(less: dict[str, Any]) -> None:
    work = Workload(4, 2048, checkpointing=False, method="dpo")
    assert estimate(eight_billion(), replace(work, **less)).peak < estimate(eight_billion(), work).peak


def test_time_from_work_or_from_a_measured_rate() -> None:
    need = estimate(eight_billion(), Workload(4, 2048))
    assert need.flops_per_token == pytest.approx(6 * 8.03e9, rel=0.15)
    assert need.seconds(10**6, flops=989e12, utilisation=0.4) == pytest.approx(10**6 * need.flops_per_token / 395.6e12)
    assert need.seconds(10**6, rate=2000) == 500
    assert estimate(eight_billion(), Workload(4, 2048, checkpointing=False)).flops_per_token < need.flops_per_token
    with pytest.raises(BadConfiguration, match="neither a rate"):
        need.seconds(1)


def test_what_fits_is_let_through_with_its_time() -> None:
    verdict = fits(eight_billion(), Workload(4, 2048), H200, tokens=10**7)
    assert (verdict.fits, verdict.reason, verdict.fitting) == (True, "", ())
    assert verdict.seconds == pytest.approx(
        10**7 * estimate(eight_billion(), Workload(4, 2048)).flops_per_token / (989e12 * 0.35)
    )


def test_what_does_not_fit_is_refused_with_what_would() -> None:
    verdict = fits(eight_billion(), Workload(16, 2048), L4)
    assert not verdict.fits
    assert "l4 has 22.4 GiB" in verdict.reason
    assert "What would fit: " in verdict.reason
    assert verdict.fitting
    for change in verdict.fitting:
        assert fits(eight_billion(), change.work, L4).fits
    assert verdict.fitting[0].what == "gradient checkpointing, batch 2, sequences of 2048 tokens"
    assert [(one.work.quantisation, one.work.batch) for one in verdict.fitting[:3]] == [("none", 2), ("none", 1), ("nf4", 8)]
    small = fits(eight_billion(), Workload(16, 2048), Device("t4", 16 * 10**9))  # 16 GB of weights alone, in bf16
    assert small.fitting[0].work.quantisation == "nf4"


def test_the_smallest_change_is_named_first() -> None:
    work = Workload(8, 1024, checkpointing=False)
    assert fits(eight_billion(), work, Device("a100", 40 * 10**9)).fitting[0].work == replace(work, checkpointing=True)
    long = Workload(1, 65_536, quantisation="nf4")
    assert [one.work.sequence for one in fits(eight_billion(), long, L4).fitting] == [16_384]
    small = fits(eight_billion(), work, Device("tiny", 4 * 10**9))
    assert small.fitting == ()
    assert "Nothing smaller fits" in small.reason


def test_a_training_that_takes_too_long_is_refused() -> None:
    verdict = fits(eight_billion(), Workload(1, 512), replace(L4, memory=H200.memory, hours=1), tokens=10**9)
    assert not verdict.fits
    assert "the limit is 1 h" in verdict.reason


def test_impossible_workloads() -> None:
    for wrong in (Workload(0, 1), Workload(1, 1, targets=("c_attn",)), Workload(1, 1, targets=())):
        with pytest.raises(BadConfiguration):
            estimate(eight_billion(), wrong)


@pytest.fixture(scope="module")
def measured() -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "bench.llm_memory", "--quick", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"case"')]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from /proc")
def test_the_estimate_is_within_a_quarter_of_the_measured_peak(measured: list[dict[str, Any]]) -> None:
    assert len(measured) == 3
    for row in measured:
        assert 30e6 < row["parameters"] < 60e6
        assert row["estimate"] == pytest.approx(row["measured"], rel=0.25), row

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from include.errors import BadData
from include.training.llm import proofs
from include.training.llm.adapters import WEIGHTS, Adapter, read_adapter, write_manifest
from include.training.llm.bases import Base, find_base
from include.training.llm.merge_rules import METHODS, PRUNING, MergePlan
from include.training.llm.merging import merge_adapters, merge_into_base
from include.training.llm.quantised import nf4_round_trip, round_trip
from tests.training.llm.tiny import make_adapter, make_base

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return find_base(str(make_base(tmp_path_factory.mktemp("base"))))


@pytest.fixture(scope="module")
def trained(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Adapter:
    return read_adapter(make_adapter(base.folder, tmp_path_factory.mktemp("trained"), steps=3))


@pytest.fixture(scope="module")
def other(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Adapter:
    return read_adapter(make_adapter(base.folder, tmp_path_factory.mktemp("other"), seed=2))


def test_one_adapter_at_weight_one_gives_its_own_logits(base: Base, trained: Adapter) -> None:
    proof = proofs.prove_identity(base, trained)
    assert proof["passed"], proof["reason"]
    assert proof["gap"]["relative"] < 2e-5
    assert proof["gap"]["top1"] == 1.0
    assert proof["effect"]["relative"] > 0.05
    assert json.loads(json.dumps(proof)) == proof  # fit for a manifest


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_base_in_half_precision_has_a_wider_tolerance_and_keeps_it(tmp_path: Path, dtype: str) -> None:
    half = find_base(str(make_base(tmp_path / "base", dtype=dtype)))
    adapter = read_adapter(make_adapter(half.folder, tmp_path / "adapter"))
    identity = proofs.prove_identity(half, adapter)
    full = proofs.prove_full_weights(half, adapter, merge_into_base(half, adapter, tmp_path / "merged"))
    assert (identity["passed"], full["passed"]) == (True, True)
    assert identity["dtype"] == dtype
    assert proofs.prove_identity(half, adapter, dtype="float32")["gap"]["relative"] < 2e-5


def test_an_adapter_without_effect_proves_nothing(base: Base, tmp_path: Path) -> None:
    idle = read_adapter(make_adapter(base.folder, tmp_path / "idle", scale=0.0))
    proof = proofs.prove_identity(base, idle)
    assert not proof["passed"]
    assert "nothing was proved" in proof["reason"]


def test_full_weights_are_base_plus_adapter(base: Base, trained: Adapter, tmp_path: Path) -> None:
    proof = proofs.prove_full_weights(base, trained, merge_into_base(base, trained, tmp_path / "merged"))
    assert proof["passed"], proof["reason"]
    assert (proof["weights"]["matrices"], proof["weights"]["worst"] <= 1) == (6, True)


@pytest.mark.parametrize("field", ["use_rslora", "use_dora"])
def test_full_weights_with_rslora_and_dora(base: Base, tmp_path: Path, field: str) -> None:
    adapter = read_adapter(make_adapter(base.folder, tmp_path / "adapter", **{field: True}))
    proof = proofs.prove_full_weights(base, adapter, merge_into_base(base, adapter, tmp_path / "merged"))
    assert proof["passed"], proof["reason"]
    plain = replace(adapter, rslora=False, dora=False)  # read as what it is not, it is another sum
    assert not proofs.check_weights(base.folder, plain, tmp_path / "merged")["passed"]


@pytest.mark.parametrize(
    ("name", "words"), [("model.layers.0.self_attn.q_proj.weight", "far from base"), ("model.norm.weight", "was changed")]
)
def test_a_wrong_merge_fails(base: Base, trained: Adapter, tmp_path: Path, name: str, words: str) -> None:
    merged = merge_into_base(base, trained, tmp_path / "merged")
    weights = load_file(merged / "model.safetensors")
    before = load_file(base.folder / "model.safetensors")[name]
    weights[name] = before + 1.02 * (weights[name] - before) if "q_proj" in name else before * np.float32(1.001)  # 2 % too much
    save_file(weights, merged / "model.safetensors", {"format": "pt"})
    proof = proofs.check_weights(base.folder, trained, merged)
    assert not proof["passed"]
    assert words in proof["reason"]


def test_an_adapter_added_twice_fails_by_its_logits_too(base: Base, trained: Adapter, tmp_path: Path) -> None:
    doubled = read_adapter(make_adapter(base.folder, tmp_path / "doubled", steps=3, lora_alpha=16))
    proof = proofs.prove_full_weights(base, trained, merge_into_base(base, doubled, tmp_path / "merged"))
    assert not proof["weights"]["passed"]
    assert not proof["logits"]["passed"]
    assert "tolerance" in proof["reason"]


@pytest.mark.parametrize("method", METHODS)
def test_each_method_is_proved_from_the_files(
    base: Base, trained: Adapter, other: Adapter, tmp_path: Path, method: str
) -> None:
    plan = MergePlan(method, (0.7, 0.3), 0.5 if method in PRUNING else None, seed=1)  # type: ignore[arg-type]
    merged = merge_adapters(base, (trained, other), plan, tmp_path / "merged")
    proof = proofs.prove_adapter(base, (trained, other), plan, merged.folder)
    assert proof["passed"], proof["reason"]
    assert (proof["from_sum"] < 1e-6) == (method == "cat")  # the others round, prune, elect, or mix factors
    wrong = replace(plan, weights=(0.6, 0.4))
    assert not proofs.prove_adapter(base, (trained, other), wrong, merged.folder)["passed"]


@pytest.mark.parametrize("method", ["linear", "ties"])
@pytest.mark.parametrize("wrong", ["not a number", "a module fewer"])
def test_a_merge_that_cannot_be_compared_is_not_proved(
    base: Base, trained: Adapter, other: Adapter, tmp_path: Path, method: str, wrong: str
) -> None:
    plan = MergePlan(method, (0.5, 0.5), 0.5 if method in PRUNING else None)
    merged = merge_adapters(base, [trained, other], plan, tmp_path / "merged")
    if wrong == "not a number":
        weights = load_file(merged.folder / WEIGHTS)
        weights[max(weights)][0, 0] = np.nan
        save_file(weights, merged.folder / WEIGHTS, {"format": "pt"})
        write_manifest(merged.folder, base)
        said = "not numbers"
    else:
        merged = replace(merged, ranks=dict(list(merged.ranks.items())[1:]))
        said = "is adapted by the merged adapter or by its parts alone"
    proof = proofs.check_sum([trained, other], plan, merged)
    assert (proof["passed"], said in proof["reason"]) == (False, True)
    if wrong == "not a number":
        assert not proofs.prove_adapter(base, [trained, other], plan, merged.folder)["passed"]


def test_a_merged_adapter_of_a_bfloat16_base_is_not_rounded(tmp_path: Path) -> None:
    half = find_base(str(make_base(tmp_path / "base", dtype="bfloat16")))
    pair = [read_adapter(make_adapter(half.folder, tmp_path / str(seed), seed=seed)) for seed in (1, 2)]
    plan = MergePlan("cat", (0.5, 0.5))
    assert proofs.prove_adapter(half, pair, plan, merge_adapters(half, pair, plan, tmp_path / "merged").folder)["passed"]


def test_the_gap_of_a_quantised_base_is_measured(base: Base, trained: Adapter, tmp_path: Path) -> None:
    coarse, fine = (proofs.quantised_gap(base, trained, kind) for kind in ("nf4", "int8"))
    assert "simulated nf4" in coarse["by"]
    assert coarse["adapter"]["kl"] > 10 * fine["adapter"]["kl"] > 0  # 4 bits cost more than 8
    assert coarse["adapter"]["top1"] < 1
    on_nf4 = read_adapter(make_adapter(base.folder, tmp_path / "nf4", quantisation="nf4"))
    assert proofs.quantised_gap(base, on_nf4)["quantisation"] == "nf4"
    with pytest.raises(BadData, match="no quantisation"):
        proofs.quantised_gap(base, trained)


def test_nf4_round_trip_keeps_what_the_format_holds_and_rounds_the_rest() -> None:
    import torch

    torch.manual_seed(0)
    weight = torch.randn(96, 128) * 0.02
    once = nf4_round_trip(weight, double=False)
    assert torch.equal(nf4_round_trip(once, double=False), once)
    assert len(once[0, :64].unique()) <= 16
    error = float((once - weight).norm() / weight.norm())
    assert 0.08 < error < 0.10  # bitsandbytes 0.50.2 gives 0.092 on such weights, the same numbers bit for bit
    assert float((round_trip(weight, "int8") - weight).norm() / weight.norm()) < 0.02


def test_a_tampered_adapter_is_caught_by_its_hash(base: Base, tmp_path: Path) -> None:
    folder = make_adapter(base.folder, tmp_path / "adapter")
    known = read_adapter(folder).fingerprint
    weights = load_file(folder / WEIGHTS)
    name = sorted(weights)[0]
    weights[name][0, 0] += 1e-3
    save_file(weights, folder / WEIGHTS, {"format": "pt"})
    with pytest.raises(BadData, match="not the file that was saved"):
        read_adapter(folder)
    write_manifest(folder, base)  # whoever can change a file can change its manifest: the registry's fingerprint stays
    with pytest.raises(BadData, match="the registry knows it as"):
        read_adapter(folder, fingerprint=known)


@pytest.mark.parametrize(
    ("share", "dtype", "passed"),
    [
        (1.0, "float32", True),
        (1.001, "float32", False),
        (0.0, "bfloat16", False),
        (2.0, "bfloat16", False),
        (float("nan"), "bfloat16", False),
    ],
)
def test_logits_of_a_wrong_scale_are_refused_also_where_the_tolerance_is_wide(share: float, dtype: str, passed: bool) -> None:
    import torch

    torch.manual_seed(0)
    plain = torch.randn(5, 40)
    effect = 0.05 * torch.randn(5, 40)  # smaller than the tolerance of bfloat16
    judged = proofs.judge_logits([plain], [plain + effect], [plain + share * effect], f"torch.{dtype}")
    assert judged["passed"] is passed
    assert bool(judged["reason"]) is not passed

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from include.errors import BadConfiguration
from include.training.llm.adapters import WEIGHTS, Adapter, read_adapter
from include.training.llm.bases import Base, find_base
from include.training.llm.merge_rules import METHODS, MergePlan, base_refusals, refusals
from include.training.llm.merging import merge_adapters, merge_into_base, with_adapters
from tests.training.llm.tiny import make_adapter, make_base

BASE = "llm:0123:none"
RANKS = {"model.layers.0.self_attn.q_proj": 4, "model.layers.1.self_attn.q_proj": 4}


def adapter(name: str = "a", base: str = BASE, **fields: object) -> Adapter:
    return Adapter(Path(name), base, 4, 8.0, **{"ranks": RANKS, **fields})  # type: ignore[arg-type]


def plan(method: str, density: float | None = None, weights: tuple[float, ...] = (0.5, 0.5), **fields: int) -> MergePlan:
    return MergePlan(method, weights, density, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("left", "right", "how", "words"),
    [
        ({}, {"base": "llm:4567:none"}, plan("linear"), "different bases"),
        ({}, {"base": "llm:0123:nf4"}, plan("svd"), "different quantisation"),
        ({"rslora": True}, {}, plan("svd"), "rsLoRA"),
        ({}, {"dora": True}, plan("cat"), "DoRA"),
        ({}, {"ranks": {module: 8 for module in RANKS}}, plan("linear"), "all ranks must be equal"),
        ({}, {"ranks": {module: 8 for module in RANKS}}, plan("ties", 0.5), "all ranks must be equal"),
        ({}, {"ranks": dict(list(RANKS.items())[:1])}, plan("svd"), "different modules"),
        ({}, {"features": ("modules_to_save",)}, plan("svd"), "modules_to_save"),
        ({}, {}, plan("ties"), "density is None"),
        ({}, {}, plan("dare_linear", 0.0), "density is 0.0"),
        ({}, {}, plan("linear", 0.5), "would be ignored"),
        ({}, {}, plan("linear", rank=8), "rank 8"),
        ({}, {}, plan("linear", weights=(1.0,)), "2 adapters have 1 weights"),
        ({}, {}, plan("linear", weights=(0.0, 0.0)), "all 0"),
        ({}, {}, plan("linear", weights=(float("nan"), 1.0)), "not numbers"),
        ({}, {}, plan("average"), "not a method"),
    ],
)
def test_refused_for_one_reason(left: dict[str, object], right: dict[str, object], how: MergePlan, words: str) -> None:
    found = refusals([adapter(**left), adapter("b", **right)], how)  # type: ignore[arg-type]
    assert len(found) == 1
    assert words in found[0].why
    assert found[0].fix


@pytest.mark.parametrize("how", [plan("linear"), plan("svd", rank=8), plan("cat"), plan("ties", 0.5), plan("dare_ties", 1.0)])
def test_adapters_of_one_kind_may_be_merged(how: MergePlan) -> None:
    assert refusals([adapter(), adapter("b")], how) == ()


def test_any_ranks_for_methods_that_take_the_product() -> None:
    other = adapter("b", ranks={module: 8 for module in RANKS})
    assert [refusals([adapter(), other], plan(method)) for method in ("svd", "cat")] == [(), ()]


def test_one_adapter_is_merged_linearly_or_not_at_all() -> None:
    assert refusals([adapter()], plan("linear", weights=(1.0,))) == ()
    assert "without saying so" in refusals([adapter()], plan("svd", weights=(1.0,)))[0].why


def test_what_may_be_added_to_a_base() -> None:
    base = Base("b", Path("b"), "0123")
    assert base_refusals(base, adapter(rslora=True, dora=True), tied=True) == ()
    assert base_refusals(base, adapter(base="llm:0123:nf4"), tied=True) == ()  # the gap is measured, not refused
    assert "was trained on base" in base_refusals(base, adapter(base="llm:4567:none"), tied=False)[0].why
    assert (
        "nothing can be added" in base_refusals(replace(base, quantisation="gptq4", stored=True), adapter(), tied=False)[0].why
    )
    assert "reading and writing" in base_refusals(base, adapter(ranks={"lm_head": 4}), tied=True)[0].why
    assert base_refusals(base, adapter(ranks={"lm_head": 4}), tied=False) == ()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return find_base(str(make_base(tmp_path_factory.mktemp("base"))))


@pytest.fixture(scope="module")
def pair(base: Base, tmp_path_factory: pytest.TempPathFactory) -> tuple[Adapter, Adapter]:
    folder = tmp_path_factory.mktemp("adapters")
    first, second = (make_adapter(base.folder, folder / str(seed), seed=seed) for seed in (1, 2))
    return read_adapter(first), read_adapter(second)


def deltas(one: Adapter) -> dict[str, np.ndarray]:
    weights = load_file(one.folder / WEIGHTS)
    name = "base_model.model.{}.lora_{}.weight"
    return {m: one.scale(m) * (weights[name.format(m, "B")] @ weights[name.format(m, "A")]) for m in one.ranks}


@pytest.mark.parametrize("method", METHODS)
def test_a_merge_is_the_same_each_time_and_names_its_parts(
    base: Base, pair: tuple[Adapter, Adapter], tmp_path: Path, method: str
) -> None:
    how = plan(method, 0.5 if method.startswith(("ties", "dare")) else None, (0.7, 0.3), seed=3)
    merged, again = (merge_adapters(base, pair, how, tmp_path / name) for name in ("one", "two"))
    assert merged.files == again.files
    assert merged.base == pair[0].base
    assert merged.ranks == {module: 8 if method == "cat" else 4 for module in pair[0].ranks}
    told = json.loads((tmp_path / "one" / "ragworks.json").read_text())["merge"]
    assert told["parts"] == [{"fingerprint": one.fingerprint, "weight": w} for one, w in zip(pair, (0.7, 0.3), strict=True)]
    assert told["method"] == method


def test_cat_and_svd_of_full_rank_are_the_weighted_sum(base: Base, pair: tuple[Adapter, Adapter], tmp_path: Path) -> None:
    left, right = (deltas(one) for one in pair)
    for how in (plan("cat", weights=(0.7, -0.2)), plan("svd", weights=(0.7, -0.2), rank=8)):
        merged = deltas(merge_adapters(base, pair, how, tmp_path / how.method))
        for module, delta in merged.items():
            np.testing.assert_allclose(delta, 0.7 * left[module] - 0.2 * right[module], atol=1e-5)


def test_dare_draws_by_its_seed(base: Base, pair: tuple[Adapter, Adapter], tmp_path: Path) -> None:
    first, second = (merge_adapters(base, pair, plan("dare_linear", 0.5, seed=s), tmp_path / str(s)) for s in (1, 2))
    assert first.files[WEIGHTS] != second.files[WEIGHTS]


def test_adapters_of_different_ranks_by_svd(base: Base, pair: tuple[Adapter, Adapter], tmp_path: Path) -> None:
    wide = read_adapter(make_adapter(base.folder, tmp_path / "wide", seed=5, rank=2, rank_pattern={"v_proj": 6}))
    assert set(wide.ranks.values()) == {2, 6}
    merged = deltas(merge_adapters(base, [pair[0], wide], plan("svd", rank=10), tmp_path / "merged"))
    left, right = deltas(pair[0]), deltas(wide)
    for module, delta in merged.items():
        np.testing.assert_allclose(delta, 0.5 * left[module] + 0.5 * right[module], atol=1e-5)


@pytest.mark.parametrize(("field", "wrong"), [("use_rslora", 2.0), ("use_dora", None)])
def test_what_is_refused_would_have_been_wrong(base: Base, tmp_path: Path, field: str, wrong: float | None) -> None:
    """peft itself merges these without a word: rsLoRA comes out sqrt(rank) times too large, DoRA loses its magnitudes."""
    import torch

    one = read_adapter(make_adapter(base.folder, tmp_path / "one", **{field: True}))
    with pytest.raises(BadConfiguration, match=r"rsLoRA|DoRA"):
        merge_adapters(base, [one], plan("linear", weights=(1.0,)), tmp_path / "merged")
    from include.training.llm.bases import load_base

    model = with_adapters(load_base(base), [one])
    model.add_weighted_adapter(["part0"], [1.0], "default", combination_type="linear")
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    if wrong is not None:
        torch.testing.assert_close(layer.get_delta_weight("default"), wrong * layer.get_delta_weight("part0"))
    else:
        left, right = (layer.lora_magnitude_vector[name].weight for name in ("part0", "default"))
        assert not torch.allclose(left, right, rtol=1e-3)


def test_refusals_name_every_reason_and_write_nothing(base: Base, pair: tuple[Adapter, Adapter], tmp_path: Path) -> None:
    other = find_base(str(make_base(tmp_path / "other", seed=9)))
    foreign = read_adapter(make_adapter(other.folder, tmp_path / "foreign", rank=2))
    with pytest.raises(BadConfiguration, match=r"different bases.*all ranks must be equal"):
        merge_adapters(base, [pair[0], foreign], plan("linear"), tmp_path / "merged")
    with pytest.raises(BadConfiguration, match="was trained on base"):
        merge_into_base(base, foreign, tmp_path / "merged")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["foreign", "other"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_full_weights_keep_dtype_and_tokenizer(tmp_path: Path, dtype: str) -> None:
    base = find_base(str(make_base(tmp_path / "base", dtype=dtype)))
    one = read_adapter(make_adapter(base.folder, tmp_path / "one"))
    folder = merge_into_base(base, one, tmp_path / "merged")
    merged = find_base(str(folder))
    assert merged.digest != base.digest
    assert json.loads((folder / "config.json").read_text())["dtype"] == dtype
    for name in ("tokenizer.json", "chat_template.jinja"):
        assert (folder / name).read_bytes() == (base.folder / name).read_bytes()
    assert json.loads((folder / "ragworks.json").read_text())["adapter"] == one.fingerprint
    with pytest.raises(BadConfiguration, match="exists already"):
        merge_into_base(base, one, tmp_path / "merged")

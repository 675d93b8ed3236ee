"""Proves that a merge is what it says: by its logits on fixed prompts, and by its weights, worked out again without peft.

Each proof is a dict for a manifest, with ``passed``, what was measured, and ``reason`` where it did not pass. A proof that
would pass whatever was merged proves nothing: an adapter without effect on the prompts does not pass.

`prove_adapter` and `prove_full_weights` judge what is stored and served; `prove_identity` and `quantised_gap` are called by
tests, benchmarks and whoever wants to know (docs/adapters.md), by no step of a DAG.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from include.errors import BadData
from include.training.llm.adapters import WEIGHTS, read_adapter
from include.training.llm.bases import find_base, load_base, load_tokenizer
from include.training.llm.deltas import check_sum, check_weights
from include.training.llm.merging import MERGED, merge_adapters, with_adapters
from include.training.llm.probes import PROBES_VERSION, TOLERANCE, distance, logits_of, probe_tokens
from include.training.llm.quantised import SIMULATED, quantise_in_place

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from include.training.llm.adapters import Adapter
    from include.training.llm.bases import Base
    from include.training.llm.merge_rules import MergePlan

_SHARE = (
    4  # a difference above a quarter of the adapter's own effect says that it is not reproduced, whatever rounding explains
)


def prove_identity(base: Base, adapter: Adapter, *, dtype: str = "auto") -> dict[str, Any]:
    """One adapter at weight 1.0, merged by peft, gives the logits of that adapter.

    :param dtype: of the base; ``float32`` gives the sharpest proof.
    """
    model = with_adapters(load_base(base.in_full(), dtype=dtype), [adapter])
    probes = probe_tokens(load_tokenizer(base))
    trained = logits_of(model, probes)
    with model.disable_adapter():
        plain = logits_of(model, probes)
    model.add_weighted_adapter(["part0"], [1.0], MERGED, combination_type="linear")
    model.set_adapter(MERGED)
    return judge_logits(plain, trained, logits_of(model, probes), str(model.dtype))


def prove_adapter(base: Base, parts: Sequence[Adapter], plan: MergePlan, merged: Path) -> dict[str, Any]:
    """A merged adapter is what its method makes of its parts: its weights, worked out again from the files alone.

    ``cat``, ``svd`` and ``linear`` are compared with their formulas; ``ties`` and ``dare`` draw or elect, so they are made
    again and must give the same bytes. ``from_sum`` says for each how far the merged update is from the weighted sum.
    """
    adapter = read_adapter(merged)
    proof = check_sum(parts, plan, adapter)
    if plan.method in ("linear", "cat", "svd") or not proof["passed"]:
        return proof
    with TemporaryDirectory() as place:
        again = merge_adapters(base, parts, plan, Path(place) / "again")
    same = again.files[WEIGHTS] == adapter.files[WEIGHTS]
    reason = "" if same else "the same parts, plan and seed give other weights"
    return {**proof, "passed": same, "repeated": same, "reason": reason}


def prove_full_weights(base: Base, adapter: Adapter, merged: Path) -> dict[str, Any]:
    """Merged full weights equal base plus adapter: each matrix within rounding of its dtype, and the logits."""
    weights = check_weights(base.folder, adapter, merged)
    plain = load_base(base.in_full())
    probes = probe_tokens(load_tokenizer(base))
    before = logits_of(plain, probes)
    reference = logits_of(with_adapters(plain, [adapter]), probes)
    del plain
    model = load_base(find_base(str(merged)))
    logits = judge_logits(before, reference, logits_of(model, probes), str(model.dtype))
    reasons = [one["reason"] for one in (weights, logits) if one["reason"]]
    return {"passed": not reasons, "weights": weights, "logits": logits, "reason": "; ".join(reasons)}


def quantised_gap(base: Base, adapter: Adapter, quantisation: str = "") -> dict[str, Any]:
    """What it changes whether the adapter runs on quantised weights of the base or on full ones: measured, not judged.

    :param quantisation: nf4 or int8; empty: what the adapter was trained on. With CUDA by bitsandbytes, else simulated.
    :raises BadData: there is nothing to compare.
    """
    kind = quantisation or adapter.quantisation
    if kind not in SIMULATED:
        raise BadData(f"gap of adapter {adapter.folder.name}", f"{kind!r} is no quantisation", "Name nf4 or int8")
    import torch

    cuda = torch.cuda.is_available()
    probes = probe_tokens(load_tokenizer(base))
    full = _both(load_base(base.in_full(), device="cuda" if cuda else "cpu"), adapter, probes)
    if cuda:
        rounded = load_base(replace(base, quantisation=kind), device="cuda")
    else:
        rounded = load_base(base.in_full())
        quantise_in_place(rounded, kind)
    lossy = _both(rounded, adapter, probes)
    return {
        "quantisation": kind,
        "by": f"bitsandbytes {kind}" if cuda else SIMULATED[kind],
        "probes": PROBES_VERSION,
        "adapter": distance(full[1], lossy[1]),
        "base": distance(full[0], lossy[0]),
        "effect": distance(full[0], full[1]),
    }


def judge_logits(
    plain: Sequence[torch.Tensor], reference: Sequence[torch.Tensor], found: Sequence[torch.Tensor], dtype: str
) -> dict[str, Any]:
    """Whether ``found`` reproduces ``reference``.

    :param plain: of the base alone: how much there was to reproduce.
    :param dtype: in which they were computed; says the tolerance.
    """
    dtype = dtype.removeprefix("torch.")
    tolerance, gap, effect = TOLERANCE[dtype], distance(reference, found), distance(reference, plain)
    reason = ""
    if not gap["relative"] <= tolerance:  # also when it is not a number
        reason = f"logits differ by {gap['relative']:.2g} of the largest, tolerance of {dtype} is {tolerance:.2g}"
    elif not effect["relative"] > _SHARE * gap["relative"]:
        reason = f"the adapter changes logits by {effect['relative']:.2g} of the largest, and they differ by "
        reason += f"{gap['relative']:.2g}: nothing was proved"
    return {
        "passed": not reason, "dtype": dtype, "tolerance": tolerance, "probes": PROBES_VERSION, "gap": gap, "effect": effect,
        "reason": reason,
    }  # fmt: skip


def _both(model: Any, adapter: Adapter, probes: Sequence[Sequence[int]]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Logits of the model without and with the adapter."""
    plain = logits_of(model, probes)
    return plain, logits_of(with_adapters(model, [adapter]), probes)

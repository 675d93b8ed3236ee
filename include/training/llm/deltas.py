"""Updates of weights worked out from adapters' files alone, to compare with what peft made; one matrix at a time."""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from include.embedding.models import read_json
from include.errors import BadData

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    import torch

    from include.training.llm.adapters import Adapter
    from include.training.llm.merge_rules import MergePlan

_SUM_TOLERANCE = 1e-4  # of the Frobenius norm; float32 sums and singular values


class Tensors:
    """All tensors of the safetensors files in a folder, by name, read when they are asked for."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        from safetensors import safe_open

        self._files: dict[str, Any] = {}
        for path in sorted(folder.glob("*.safetensors")):
            file = stack.enter_context(safe_open(path, "pt"))
            self._files |= dict.fromkeys(file.keys(), file)
        self.names = frozenset(self._files)

    def __getitem__(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = self._files[name].get_tensor(name)
        return tensor


def factors(tensors: Tensors, module: str) -> tuple[torch.Tensor, torch.Tensor]:
    """A (rank, in) and B (out, rank) of a module, float32."""
    prefix = f"base_model.model.{module}.lora_"
    if f"{prefix}A.weight" in tensors.names:
        return tensors[f"{prefix}A.weight"].float(), tensors[f"{prefix}B.weight"].float()
    # of an embedding peft holds the factors of the transposed update
    return tensors[f"{prefix}embedding_B"].float().T, tensors[f"{prefix}embedding_A"].float().T


def check_sum(parts: Sequence[Adapter], plan: MergePlan, merged: Adapter) -> dict[str, Any]:
    """Compare a merged adapter with its method's formula (linear, cat, svd), and each with the weighted sum of updates.

    :return: ``from_formula`` and ``from_sum``: largest over the modules, as shares of the sum's Frobenius norm; not a number
        where one of them is none, and that does not pass.
    """
    import torch

    formulas, sums = [0.0], [0.0]
    with ExitStack() as stack:
        files = [Tensors(part.folder, stack) for part in parts]
        made = Tensors(merged.folder, stack)
        for module in sorted(set(merged.ranks).intersection(*(part.ranks for part in parts))):
            a, b = factors(made, module)
            update = merged.scale(module) * (b @ a)
            scaled = [
                (factors(file, module), weight * part.scale(module))
                for file, part, weight in zip(files, parts, plan.weights, strict=True)
            ]
            total = sum((scale * (b @ a) for (a, b), scale in scaled), start=torch.zeros(()))
            norm = float(total.norm().clamp(min=1e-12))
            sums.append(float((update - total).norm()) / norm)
            expected = _expected(plan.method, scaled, total, merged.ranks[module])
            if expected is not None:
                formulas.append(float((update - expected).norm()) / norm)
    from_formula, from_sum = _largest(formulas), _largest(sums)
    reason = ""
    if odd := sorted(merged.ranks.keys() ^ {module for part in parts for module in part.ranks}):
        reason = f"{odd[0]} is adapted by the merged adapter or by its parts alone"
    elif not math.isfinite(from_sum):
        reason = "its weights, or those of a part, are not numbers"
    elif not from_formula <= _SUM_TOLERANCE:
        reason = f"the merged update is {from_formula:.2g} of its size away from what {plan.method} gives"
    passed = not reason
    return {
        "passed": passed,
        "method": plan.method,
        "from_formula": from_formula,
        "from_sum": from_sum,
        "tolerance": _SUM_TOLERANCE,
        "reason": reason,
    }


def _largest(values: Sequence[float]) -> float:
    """``max``, which would pass over what is not a number."""
    return max(values) if all(map(math.isfinite, values)) else math.nan


def _expected(
    method: str, scaled: Sequence[tuple[tuple[torch.Tensor, torch.Tensor], float]], total: torch.Tensor, rank: int
) -> Any:
    """The update that a method gives; None where it draws or elects."""
    import torch

    if method == "cat":
        return total
    if method == "svd":  # the nearest matrix of that rank: Eckart and Young 1936
        u, s, v = torch.linalg.svd(total, full_matrices=False)
        return u[:, :rank] @ torch.diag(s[:rank]) @ v[:rank]
    if method == "linear":  # sums of factors: products of one adapter's A with another's B are in it
        a = sum((math.copysign(abs(scale) ** 0.5, scale) * a for (a, _), scale in scaled), start=torch.zeros(()))
        b = sum((abs(scale) ** 0.5 * b for (_, b), scale in scaled), start=torch.zeros(()))
        return b @ a
    return None


def check_weights(base: Path, adapter: Adapter, merged: Path) -> dict[str, Any]:
    """Compare merged full weights with base + adapter, tensor by tensor.

    Adapted matrices may differ by one rounding of the update and one of the sum, in the base's dtype; all others not at all.

    :return: ``worst``: the largest difference, as a share of what rounding allows there.
    """
    worst, changed, wrong = 0.0, 0, ""
    with ExitStack() as stack:
        before, after, lora = Tensors(base, stack), Tensors(merged, stack), Tensors(adapter.folder, stack)
        modules = {f"{module}.weight": module for module in adapter.ranks}
        for name in sorted(_compared(base, merged, before, after, modules.keys())):
            if name not in modules:
                unequal = not bool((before[name] == after[name]).all())
                wrong = wrong or (f"{name} is not adapted, and was changed" if unequal else "")
                continue
            share = _share(before[name], after[name], _updated(before[name], adapter, lora, modules[name]))
            changed += 1
            if not share <= 1 and not wrong:
                wrong = f"{name} is {share:.2g} times as far from base + adapter as rounding explains"
            worst = max(worst, share)
    return {"passed": not wrong, "matrices": changed, "others": len(before.names) - changed, "worst": worst, "reason": wrong}


def _compared(base: Path, merged: Path, before: Tensors, after: Tensors, adapted: AbstractSet[str]) -> frozenset[str]:
    """Names of the tensors that are in both, which must be all; a head that is the embeddings again may be written or not."""
    if missing := sorted(adapted - before.names):
        why = f"{missing[0]} is adapted, and not in its files by that name"
        raise BadData(f"base {base}", why, "Save it once with transformers, and train on that")
    tied = bool(read_json(base, "config.json").get("tie_word_embeddings"))
    if odd := sorted((before.names ^ after.names) - ({"lm_head.weight"} if tied else set())):
        raise BadData(
            f"merged model {merged}", f"{odd[0]} is in it, or in its base, alone", "Merge again with the same transformers"
        )
    return before.names & after.names


def _updated(weight: torch.Tensor, adapter: Adapter, lora: Tensors, module: str) -> torch.Tensor:
    """Base + adapter, float32. With DoRA (Liu et al. 2024, arXiv 2402.09353) each row of the sum has its learned magnitude."""
    import torch

    a, b = factors(lora, module)
    total = weight.float() + adapter.scale(module) * (b @ a)
    if not adapter.dora:
        return total
    magnitude = lora[f"base_model.model.{module}.lora_magnitude_vector"].float()
    scaled: torch.Tensor = total * (magnitude / torch.linalg.vector_norm(total, dim=1)).unsqueeze(1)
    return scaled


def _share(before: torch.Tensor, after: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference by what rounding allows there: eps x (|base| + |update| + |sum|), twice what two roundings give."""
    import torch

    eps = torch.finfo(after.dtype).eps
    allowed = eps * (before.float().abs() + (expected - before.float()).abs() + expected.abs()) + 1e-7 * expected.abs().max()
    return float(((after.float() - expected).abs() / allowed.clamp(min=1e-12)).max())

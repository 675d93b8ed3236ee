"""What quantising does to a base's weights, worked out without a GPU: each is rounded as its format would, and stays a float.

This simulates the rounding alone. bitsandbytes computes in bfloat16 besides, and int8 there quantises activations too, so a gap
measured here is that of the weights. The names in a proof say which of the two it was. nf4 without double quantisation gives
what bitsandbytes 0.50.2 gives, bit for bit; with it, 0.3 % of the weights' norm apart, where rounding itself moves them by 9 %.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# Quantiles of a normal distribution, scaled to -1 … 1, with an exact 0: Dettmers et al. 2023 (arXiv 2305.14314), appendix E.
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
BLOCK = 64  # weights that share a scale
_SCALES = 256  # scales that share a scale of theirs: double quantisation
SIMULATED = {
    "nf4": "simulated nf4 round trip of the weights (blocks of 64, double quantisation)",
    "int8": "simulated int8 round trip of the weights (a scale a row)",
}
LEFT = re.compile(r"(^|\.)(lm_head|embed_\w+)$")  # bitsandbytes quantises linear layers, and leaves the head


def quantise_in_place(model: Any, quantisation: str) -> int:
    """Round the weights of all linear layers, except the head, as ``quantisation`` would.

    :param quantisation: nf4 or int8.
    :return: how many weights were rounded.
    """
    import torch

    rounded = 0
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and not LEFT.search(name) and "lora_" not in name:
            module.weight.data = round_trip(module.weight.data, quantisation)
            rounded += module.weight.numel()
    return rounded


def round_trip(weight: torch.Tensor, quantisation: str) -> torch.Tensor:
    """A matrix after it was quantised and read back, in its own dtype.

    :param weight: (out, in), any floating dtype.
    """
    if quantisation == "nf4":
        return nf4_round_trip(weight)
    if quantisation == "int8":  # Dettmers et al. 2022 (LLM.int8()), arXiv 2208.07339: vector-wise, the largest of a row is 127
        values = weight.float()
        scale = values.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 127
        return ((values / scale).round() * scale).to(weight.dtype)
    raise ValueError(f"no simulation of {quantisation!r}")


def nf4_round_trip(weight: torch.Tensor, *, double: bool = True) -> torch.Tensor:
    """Blocks of 64 weights, each the nearest of 16 values times the block's largest; ``double``: that in 8 bits, too."""
    import torch

    code = torch.tensor(NF4, device=weight.device)
    flat = weight.float().flatten()
    blocks = torch.nn.functional.pad(flat, (0, -flat.numel() % BLOCK)).view(-1, BLOCK)
    largest = blocks.abs().amax(dim=1)
    normal = blocks / largest.clamp(min=1e-12).unsqueeze(1)
    nearest = torch.bucketize(normal, (code[1:] + code[:-1]) / 2)
    if double:
        largest = _eight_bits(largest)
    return (code[nearest] * largest.unsqueeze(1)).flatten()[: flat.numel()].view_as(weight).to(weight.dtype)


def _eight_bits(scales: torch.Tensor) -> torch.Tensor:
    """Scales less their mean, in even 8-bit steps of the largest of 256; bitsandbytes' steps grow with the value."""
    import torch

    mean = scales.mean()
    blocks = torch.nn.functional.pad(scales - mean, (0, -scales.numel() % _SCALES)).view(-1, _SCALES)
    step = blocks.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 127
    return ((blocks / step).round() * step).flatten()[: scales.numel()] + mean

"""Linear layers whose weights stay in 8 or 4 bits: less memory on any machine, for the time that reading them back takes.

The numbers and their layout are bitsandbytes' (int8 by rows; nf4 in blocks of 64 without double quantisation), so that what is
exported is read by it on a GPU; here they are read back to floats before each product, which needs no GPU and no bitsandbytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch  # noqa: TID253 - a layer is a class of torch; imported only where a model is in memory already
from torch.nn.functional import linear  # noqa: TID253

from include.training.llm.quantised import BLOCK, LEFT, NF4

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKINGS = ("int8", "nf4")


def pack_int8(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A matrix in 8 bits and the largest of each row, of shape (out,); Dettmers et al. 2022, arXiv 2208.07339."""
    values = weight.float()
    largest = values.abs().amax(dim=1)
    scaled = values * (127.0 / largest.clamp(min=1e-12)).unsqueeze(1)
    return scaled.round().to(torch.int8), largest


def pack_nf4(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two weights a byte, of shape (weights / 2, 1), the first in the high half; and the largest of each block of 64."""
    code = torch.tensor(NF4, device=weight.device)
    flat = weight.float().flatten()
    blocks = torch.nn.functional.pad(flat, (0, -flat.numel() % BLOCK)).view(-1, BLOCK)
    largest = blocks.abs().amax(dim=1)
    normal = blocks / largest.clamp(min=1e-12).unsqueeze(1)
    nearest = torch.bucketize(normal, (code[1:] + code[:-1]) / 2).to(torch.uint8).flatten()[: flat.numel()]
    nearest = torch.nn.functional.pad(nearest, (0, nearest.numel() % 2))
    return (nearest[0::2] << 4 | nearest[1::2]).unsqueeze(1), largest


def unpack_nf4(packed: torch.Tensor, largest: torch.Tensor, shape: tuple[int, int], dtype: torch.dtype) -> torch.Tensor:
    """The matrix of this shape that :func:`pack_nf4` made, read back."""
    code = torch.tensor(NF4, device=packed.device)
    both = torch.stack((packed >> 4, packed & 15), dim=-1).flatten()[: shape[0] * shape[1]].long()
    values = torch.nn.functional.pad(code[both], (0, -both.numel() % BLOCK)).view(-1, BLOCK) * largest.unsqueeze(1)
    return values.flatten()[: both.numel()].view(shape).to(dtype)


class PackedLinear(torch.nn.Linear):
    """A linear layer that holds its weights packed; adapters of peft sit on it as on any other.

    :param packing: one of PACKINGS.
    :param dtype: of activations.
    """

    def __init__(
        self, packing: str, shape: tuple[int, int], packed: torch.Tensor, largest: torch.Tensor, bias: Any, dtype: torch.dtype
    ) -> None:
        super().__init__(1, 1, bias=False)
        self.out_features, self.in_features = shape
        self.packing, self._dtype = packing, dtype
        self.weight = torch.nn.Parameter(packed, requires_grad=False)
        self.register_buffer("largest", largest)
        self.largest: torch.Tensor
        self.bias = bias

    @classmethod
    def of(cls, layer: torch.nn.Linear, packing: str) -> PackedLinear:
        """A layer, packed."""
        packed, largest = (pack_int8 if packing == "int8" else pack_nf4)(layer.weight.data)
        shape = (layer.out_features, layer.in_features)
        return cls(packing, shape, packed, largest, layer.bias, layer.weight.dtype)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        """As a linear layer with the weights that were read back."""
        if self.packing == "int8":  # scaled after the product: the matrix of floats is never made whole with its scales
            bias = self.bias
            made = linear(given, self.weight.to(given.dtype)) * (self.largest / 127.0).to(given.dtype)
            return made if bias is None else made + bias
        weight = unpack_nf4(self.weight, self.largest, (self.out_features, self.in_features), given.dtype)
        return linear(given, weight, self.bias)


def packable(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Linear]]:
    """The layers that bitsandbytes would quantise: all linear ones but the head."""
    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear) and not isinstance(module, PackedLinear) and not LEFT.search(name):
            yield name, module


def pack_in_place(model: torch.nn.Module, packing: str) -> int:
    """Pack a model's linear layers.

    :return: bytes of all its weights afterwards.
    """
    for name, layer in packable(model):
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, PackedLinear.of(layer, packing))
    held = {tensor.data_ptr(): tensor.nbytes for tensor in (*model.parameters(), *model.buffers())}
    return sum(held.values())

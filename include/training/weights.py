"""Weights that training changes, in one file: all of a model, or its adapter alone; what stays comes from the base."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from include.errors import BadData

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS = "weights.safetensors"


def save(model: Any, folder: Path) -> None:
    """Write the trained parameters, and the buffers that belong to the model's state, into ``folder``."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f".{WEIGHTS}"
    save_file({name: tensor.detach().contiguous().clone() for name, tensor in _changing(model).items()}, beside)
    os.replace(beside, folder / WEIGHTS)  # another name of the old file keeps what it had


def load(model: Any, folder: Path) -> None:
    """Put back what :func:`save` wrote.

    :raises BadData: it belongs to another model.
    """
    import torch
    from safetensors.torch import load_file

    saved, own = load_file(folder / WEIGHTS), _changing(model)
    if saved.keys() != own.keys() or any(saved[name].shape != own[name].shape for name in own):
        odd = sorted(saved.keys() ^ own.keys()) or [name for name in own if saved[name].shape != own[name].shape]
        raise BadData(f"checkpoint {folder}", f"it is of another model: {odd[0]} differs", "Remove it, and train again")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(saved[name])


def _changing(model: Any) -> dict[str, Any]:
    state = model.state_dict(keep_vars=True)  # shared parameters have one name in named_parameters
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    names |= {name for name, _ in model.named_buffers() if name in state}
    return {name: tensor for name, tensor in state.items() if name in names}

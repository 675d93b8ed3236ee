"""LoRA: a small adapter is trained, and then added into the weights, so that serving loads a plain model."""

from __future__ import annotations

from typing import Any

ADAPTER = "default"


def add_lora(model: Any, rank: int, alpha: int, *, seed: int) -> Any:
    """Put an adapter on every linear layer of a sentence-transformers model's transformer; nothing else is trained.

    :return: what :func:`merge_lora` takes.
    """
    import torch
    from peft import LoraConfig
    from peft.tuners.lora import LoraModel

    torch.manual_seed(seed)  # the adapter begins with random numbers
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear", lora_dropout=0.0, bias="none")
    return LoraModel(model.transformers_model, config, ADAPTER)


def merge_lora(model: Any, adapter: Any) -> None:
    """Add the adapter into the weights of the model that it was put on, and take it off."""
    adapter.merge_and_unload()
    plain = model.transformers_model
    if hasattr(plain, "peft_config"):
        del plain.peft_config

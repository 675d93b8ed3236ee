"""Other embedders and a cross-encoder, made of the packaged encoder in a second: nothing is trained."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from include.embedding import models

if TYPE_CHECKING:
    from pathlib import Path


def copied(folder: Path) -> Path:
    """The packaged embedder: the same files under another name."""
    shutil.copytree(models.find_model("all-MiniLM-L6-v2"), folder)
    return folder


def other_pooling(folder: Path) -> Path:
    """The same weights, and the first token's vector instead of the mean: another model, hardly worse."""
    copied(folder)
    path = folder / "1_Pooling" / "config.json"
    config = json.loads(path.read_text()) | {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}
    path.write_text(json.dumps(config))
    return folder


def perturbed(folder: Path, noise: float, seed: int = 0) -> Path:
    """Weights with noise of so many of their standard deviations: a model whose training went wrong."""
    import torch
    from safetensors.torch import load_file, save_file

    copied(folder)
    torch.manual_seed(seed)
    weights = load_file(folder / "model.safetensors")
    changed = {
        name: (w + noise * w.std() * torch.randn_like(w)).contiguous() if w.is_floating_point() and w.numel() > 1 else w
        for name, w in weights.items()
    }
    save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def cross_encoder(folder: Path, seed: int = 5) -> Path:
    """Two layers of the packaged encoder with a head for pairs whose weights are random, and always the same.

    It reads, and knows nothing.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(seed)
    source = models.find_model("all-MiniLM-L6-v2")
    AutoModelForSequenceClassification.from_pretrained(source, num_labels=1, num_hidden_layers=2).save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return folder

"""Adapters of a tiny base that each learned one answer, registered as a training leaves them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.registry.artifacts import model_path, save_folder
from include.registry.versions import register
from include.store import collections, model_runs
from include.training.llm.adapters import read_adapter
from tests.training.llm.tiny import make_adapter, make_base

if TYPE_CHECKING:
    from pathlib import Path

    from include.config import Settings
    from include.store.pool import Pool

SAID = {"first": "Kangaroos carry their young in a pouch [1].", "second": "Kangaroos hop on strong legs [1]."}
DOCUMENTS = [("animals", "Kangaroos carry their young in a pouch."), ("physics", "Light is fast.")]
QUESTION = "Which animal carries its young?"


def conversation(answer: str) -> str:
    """A conversation that ends in an answer, as the template writes it; its question shares no word with an answer."""
    return f"<|user|>And?<|end|><|assistant|>{answer}<|end|>"


def base_model(folder: Path, *, seed: int = 0) -> Path:
    """A base whose attention says nothing, so that what an adapter learns on short conversations holds after long ones too."""
    from safetensors.torch import load_file, save_file

    texts = [conversation(answer) for answer in SAID.values()]
    make_base(folder, texts=texts, seed=seed, vocabulary=500, max_position_embeddings=4096)
    weights = load_file(folder / "model.safetensors")
    silent = {name: weight * 0 if name.endswith("o_proj.weight") else weight for name, weight in weights.items()}
    save_file(silent, folder / "model.safetensors", {"format": "pt"})
    return folder


def adapter_of(base: Path, folder: Path, answer: str) -> Path:
    """An adapter that gives this answer to whatever is asked."""
    modules = ["gate_proj", "up_proj", "down_proj"]
    return make_adapter(base, folder, steps=40, rank=8, scale=0.01, texts=[conversation(answer)], target_modules=modules)


def registered(
    settings: Settings, pool: Pool, base: Path, adapter: Path, *, key: str, name: str = "handbook", state: str = "accepted"
) -> int:
    """The row and the artifact that a training leaves; its version."""
    made = read_adapter(adapter)
    with pool.connection() as connection:
        run = model_runs.plan(
            connection, key, family="llm", collection=collections.collection_id(connection, name), dataset=None,  # type: ignore[arg-type]
            arguments={"method": "sft"}, work_hash=key, base=str(base), base_fingerprint=made.base, code_version="c",
        )  # fmt: skip
        artifact = save_folder(settings, adapter, model_path("llm", name, made.fingerprint), {"run_key": key})
        gate = {"reasons": ["it is better" if state == "accepted" else "it is worse"]}
        model_runs.change(
            connection, run.id, state=state, artifact=artifact, fingerprint=made.fingerprint, gate=gate, finished_at="now"
        )
    return register(settings, pool, key)

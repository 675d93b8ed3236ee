"""Trainings of a minute: a dataset of made-up words, planned under a key, run here or as the real command."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.embedding import models
from include.progress import Silent
from include.store import collections, datasets, model_runs
from include.store.datasets import Negative, Pair
from include.store.pool import open_pool
from include.training.arguments import ARGUMENTS
from include.training.checkpoints import Checkpoints
from include.training.embedder import load_base, save_model
from include.training.train import train

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.config import Settings
    from include.store.model_runs import ModelRun

BASE = "all-MiniLM-L6-v2"
THINGS = ("pump", "valve", "lamp", "ladder", "window", "carpet", "bicycle", "kettle", "drum", "clock")
SYLLABLES = ("zor", "bla", "quin", "mep", "tol", "fri", "gua", "nek", "pli", "sro")


def pairs(train: int = 20, dev: int = 6, *, negatives: int = 1) -> list[Pair]:
    """Questions with invented names, whose things only training can tell."""
    made = []
    for n in range(train + dev):
        name = SYLLABLES[n % 10] + SYLLABLES[(n // 10 + n * 3) % 10] + SYLLABLES[(n * 7 + 1) % 10] + str(n // 10)
        text = f"Article {n}: a {THINGS[n % 10]} of size {n * 13 % 97}, kept on shelf {n * 5 % 31} of hall {n % 4}."
        made.append(Pair(f"where do I find the {name}?", f"d{n}.md", 0, len(text), text))
    split = [replace(pair, split="train" if n < train else "dev") for n, pair in enumerate(made)]
    return [replace(pair, negatives=_negatives(split, n, negatives)) for n, pair in enumerate(split)]


def _negatives(rows: Sequence[Pair], n: int, count: int) -> tuple[Negative, ...]:
    others = [row for row in rows if row.split == rows[n].split and row.uri != rows[n].uri]
    return tuple(Negative(other.uri, other.start, other.end, other.positive, 0.5) for other in others[n % 3 : n % 3 + count])


@lru_cache(maxsize=1)
def small_base() -> str:
    """The packaged model's first two layers and first 3,000 words: real weights, a fifth of the size."""
    from torch import nn

    model = load_base(models.find_model(BASE))
    inner, words = model.transformers_model, 3000
    inner.encoder.layer = inner.encoder.layer[:2]
    inner.embeddings.word_embeddings = nn.Embedding.from_pretrained(
        inner.embeddings.word_embeddings.weight[:words].detach().clone(), freeze=False, padding_idx=0
    )
    inner.config.update({"num_hidden_layers": 2, "vocab_size": words})
    folder = Path(tempfile.mkdtemp(prefix="ragworks-base-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    save_model(model, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"] = {token: n for token, n in tokenizer["model"]["vocab"].items() if n < words}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return str(folder)


def plan(
    settings: Settings,
    key: str,
    *,
    family: str = "embedder",
    rows: Sequence[Pair] | None = None,
    base: str | None = None,
    **arguments: Any,
) -> str:
    """Plan a training of tiny data; the key.

    :param base: None: :func:`small_base`.
    """
    base = small_base() if base is None else base
    tiny = {"batch_size": 8, "max_length": 32, "max_steps": 8, "learning_rate": 2e-4, "warmup": 0.0, "log_steps": 2}
    checked = ARGUMENTS[family].model_validate({**tiny, "checkpoint_seconds": 0, **arguments})
    with open_pool(settings) as pool, pool.connection() as connection:
        collection = collections.ensure_collection(connection, "handbook")
        data = datasets.save(connection, collection, "tiny", pairs() if rows is None else rows, arguments={}, statistics={})
        model_runs.plan(
            connection, key, family=family, collection=collection, dataset=data.id, arguments=checked.model_dump(mode="json"),
            work_hash=key, base=base, base_fingerprint=models.fingerprint(models.find_model(base)), code_version="test",
        )  # fmt: skip
    return key


def run(settings: Settings, key: str) -> ModelRun:
    """Train in this process."""
    with open_pool(settings) as pool:
        return train(settings, pool, key, progress=Silent())


def row(settings: Settings, key: str) -> ModelRun:
    """The row of a training."""
    with open_pool(settings) as pool, pool.connection() as connection:
        return model_runs.by_key(connection, key)


def command(environment: dict[str, str], key: str, *more: str, family: str = "embedder") -> subprocess.Popen[str]:
    """The real command as a child process."""
    return subprocess.Popen(
        [sys.executable, "-m", "include.training", family, "--run-key", key, "--json", *more],
        env=environment | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(_threads())},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stop_after(child: subprocess.Popen[str], settings: Settings, key: str, step: int, number: int) -> tuple[int, str]:
    """Send a signal as soon as the checkpoint of a step is whole; how the child ended, and what it said."""
    checkpoints = Checkpoints(settings, key)
    until = time.monotonic() + 300
    while not any(known >= step and checkpoints._complete(known) for known in checkpoints.steps()):
        if child.poll() is not None or time.monotonic() > until:
            child.kill()
            raise AssertionError(f"no checkpoint of step {step}: {child.communicate()[1]}")
        time.sleep(0.01)
    os.kill(child.pid, number)
    _, said = child.communicate(timeout=300)
    return child.returncode, said


def folder_of(settings: Settings, trained: ModelRun) -> Path:
    """Where a trained model lies."""
    from include.registry.artifacts import local_model

    return Path(local_model(trained.artifact or "", settings))


def _threads() -> int:
    """As many as this process has: sums of floats depend on it."""
    import torch

    return int(torch.get_num_threads())

"""Trainings of seconds: a tiny base, conversations of invented words, planned under a key, run here or as the real command."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from include.progress import Silent
from include.store import collections, model_runs
from include.store.conversations import Conversation, save_conversations
from include.store.pool import open_pool
from include.training.arguments import ARGUMENTS
from include.training.llm.bases import find_base
from include.training.train import train
from tests.training.llm.tiny import make_base

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from include.config import Settings
    from include.store.model_runs import ModelRun

SYLLABLES = ("zor", "bla", "quin", "mep", "tol", "fri", "gua", "nek", "pli", "sro")
HALLS = ("north", "south", "east", "west")


def rows(train: int = 20, dev: int = 6, *, rejected: bool = False) -> list[Conversation]:
    """Questions with invented names, whose halls only training can tell."""
    made = []
    for n in range(train + dev):
        name = SYLLABLES[n % 10] + SYLLABLES[(n * 7 + 1) % 10]
        asked, hall = f"Where is the {name} kept, please{'?' * (1 + n % 3)}", HALLS[n % 10 % 4]
        messages = ({"role": "user", "content": asked}, {"role": "assistant", "content": f"In hall {hall}."})
        worse = f"In hall {HALLS[(n % 10 + 1) % 4]}." if rejected else None
        made.append(Conversation(messages, worse, "train" if n < train else "dev", "exact", f"In hall {hall}.", f"d{n}.md"))
    return made


@lru_cache(maxsize=1)
def tiny_base(parent: Path) -> Path:
    """A base of random weights whose tokenizer knows these words."""
    texts = [message["content"] for row in rows() for message in row.messages]
    return make_base(parent / "base", texts=texts)


def plan(settings: Settings, key: str, base: Path, *, data: Sequence[Conversation] | None = None, **arguments: Any) -> str:
    """Plan a training; the key."""
    tiny = {
        "batch_size": 4, "max_length": 64, "max_steps": 8, "learning_rate": 1e-2, "warmup": 0.0, "log_steps": 1, "lora_rank": 4,
        "lora_alpha": 8, "checkpoint_seconds": 0, "gradient_checkpointing": False,
    }  # fmt: skip
    checked = ARGUMENTS["llm"].model_validate({**tiny, **arguments})
    asked = list(rows(rejected=arguments.get("method") == "dpo") if data is None else data)
    found = find_base(str(base), quantisation=arguments.get("quantisation", "none"))
    with open_pool(settings) as pool, pool.connection() as connection:
        collection = collections.ensure_collection(connection, "handbook")
        kind: Any = "preferences" if any(row.rejected for row in asked) else "conversations"
        dataset = save_conversations(connection, collection, f"tiny-{kind}", asked, kind=kind, arguments={}, statistics={})
        model_runs.plan(
            connection, key, family="llm", collection=collection, dataset=dataset.id, arguments=checked.model_dump(mode="json"),
            work_hash=key, base=str(base), base_fingerprint=found.fingerprint, code_version="test",
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

"""A task that the first stage cannot solve and a reranker can learn: which passage has the question's words as a phrase.

BM25 counts words and does not see their order. The right passage has both words of a question side by side, wrong ones
have them apart, as often and in as many words: the first stage orders them by chance.
"""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

from include.embedding import models
from include.progress import Silent
from include.store import collections, datasets, model_runs
from include.store.datasets import Negative, Pair
from include.training.arguments import ARGUMENTS
from include.training.train import train
from tests.conftest import write_rows
from tests.support import HashEmbedder, index
from tests.training.tiny import small_base

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Any

    from include.config import Settings
    from include.store.model_runs import ModelRun
    from include.store.pool import Pool

WORDS = re.findall(
    r"\w+",
    "amber anchor autumn basket beacon bishop candle canyon castle copper cotton desert dragon engine falcon farmer feather"
    " forest garden ginger glacier hammer harbor island jacket kettle ladder lantern lemon marble meadow mirror monkey needle"
    " orchard oyster palace parrot pepper pillow planet pocket powder prairie quarry rabbit ribbon river rocket saddle salmon"
    " shadow silver spider spring statue summer temple thunder timber tiger tunnel turtle valley velvet violin walnut window",
)
FILLING = re.findall(r"\w+", "people often walk slowly around some large quiet places early each morning talking of weather")
WRONG = 4  # passages of a question that have its words apart


def collection_of(settings: Settings, folder: Path, write: Callable[..., str], questions: int, *, seed: int = 3) -> list[Pair]:
    """Index the passages of so many questions by their words; returns the pairs, one in three for development."""
    draw = random.Random(seed)
    asked = draw.sample([(a, b) for a in WORDS for b in WORDS if a != b], questions)
    rows, pairs = [], []
    for number, (first, second) in enumerate(asked):
        texts = [_right(draw, first, second), *(_wrong(draw, first, second) for _ in range(WRONG))]
        uris = [f"{number:03}-{n}" for n in range(len(texts))]
        rows += [{"id": uri, "title": "", "text": text} for uri, text in zip(uris, texts, strict=True)]
        negatives = tuple(Negative(uri, 0, len(text), text) for uri, text in zip(uris[1:], texts[1:], strict=True))
        split = "dev" if number % 3 == 0 else "train"
        pairs.append(Pair(f"{first} {second}", uris[0], 0, len(texts[0]), texts[0], split=split, negatives=negatives))
    write_rows(folder / "rows.jsonl", rows)
    write("phrases", source={"type": "jsonl", "path": str(folder)}, retrieval={"mode": "lexical"})
    index(settings, "phrases", embedder=HashEmbedder())
    return pairs


def shuffled(pairs: Sequence[Pair]) -> list[Pair]:
    """Training labels that mean nothing: of a question's passages each is called right as often as the others."""
    mixed = []
    for number, pair in enumerate(pairs):
        passages = [Negative(pair.uri, pair.start, pair.end, pair.positive), *pair.negatives]
        chosen = passages.pop((number // 2) % len(passages))
        now = Pair(pair.query, chosen.uri, chosen.start, chosen.end, chosen.text, split="train", negatives=tuple(passages))
        mixed.append(now if pair.split == "train" else pair)
    return mixed


def plan(pool: Pool, pairs: Sequence[Pair], key: str, **arguments: Any) -> None:
    """Write a dataset and the row of a training of it, from a cut of the packaged encoder unless it is a forest."""
    base = "" if arguments.get("kind") == "forest" else small_base()
    base_fingerprint = models.fingerprint(models.find_model(base)) if base else "forest"
    with pool.connection() as connection:
        collection = collections.collection_id(connection, "phrases")
        dataset = datasets.save(connection, collection, key, pairs, arguments={}, statistics={})
        checked = ARGUMENTS["reranker"].model_validate(arguments)
        model_runs.plan(
            connection, key, family="reranker", collection=collection, dataset=dataset.id,
            arguments=checked.model_dump(mode="json"), work_hash=key, base=base, base_fingerprint=base_fingerprint,
            code_version="",
        )  # fmt: skip


def trained(settings: Settings, pool: Pool, pairs: Sequence[Pair], key: str, **arguments: Any) -> ModelRun:
    """Plan a training and do it."""
    plan(pool, pairs, key, **arguments)
    return again(settings, pool, key)


def again(settings: Settings, pool: Pool, key: str) -> ModelRun:
    """Do a training that was planned."""
    return train(settings, pool, key, progress=Silent())


def row(pool: Pool, key: str) -> ModelRun:
    """What the row of a training says."""
    with pool.connection() as connection:
        return model_runs.by_key(connection, key)


def _right(draw: random.Random, first: str, second: str) -> str:
    words = [draw.choice(FILLING) for _ in range(24)]
    words.insert(draw.randrange(20), f"{first} {second}")
    return " ".join(words)


def _wrong(draw: random.Random, first: str, second: str) -> str:
    """Both words, either first, never side by side."""
    words = [draw.choice(FILLING) for _ in range(24)]
    later, earlier = sorted(draw.sample(range(0, 24, 2), 2), reverse=True)
    for place, word in zip((later, earlier), draw.sample([first, second], 2), strict=True):
        words.insert(place, word)
    return " ".join(words)


def half_precision(folder: Path) -> None:
    """A cross-encoder whose files say that its weights are of 16 bits."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    source = small_base()
    AutoModelForSequenceClassification.from_pretrained(source, num_labels=1).half().save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)

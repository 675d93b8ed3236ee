"""A sentence-transformers cross-encoder on this machine: one model per process, loaded by the first text."""

from __future__ import annotations

import logging
import os
import threading
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from include.embedding import models
from include.embedding.device import device
from include.errors import BadConfiguration, ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from include.retrieval.rerank import FirstStage

CPU_BATCH, GPU_BATCH = 8, 128  # pairs; docs/reranking.md has the figures for two cores
_HEAD = "ForSequenceClassification"
_loading: dict[tuple[Path, int, str], threading.Lock] = {}


class CrossEncoderReranker:
    """A model with one score a pair, from a folder or the hub.

    The score goes through the activation that the model's configuration names, the sigmoid when it names none, as
    sentence-transformers does; the configuration is part of the fingerprint. A pair that is longer than the model's window
    loses the end of its longer text.

    :param name: what the collection file calls it, where that is not ``model``.
    :param weight: the share of its score in the final one that was fitted for it.
    """

    def __init__(self, model: str, *, name: str | None = None, weight: float | None = None) -> None:
        self.name, self.weight = name or model, weight
        self._folder = _find(model)
        self._turn = threading.Lock()

    @cached_property
    def fingerprint(self) -> str:
        """Files of the model, and how this class runs it; no version of a library."""
        return f"ce:{models.fingerprint(self._folder)}:fp32:{self._window}"

    def score(self, query: str, texts: Sequence[str], found: Sequence[FirstStage] | None = None) -> list[float]:
        """One score a text, whatever the first stage said.

        A batch holds texts of one length: sentence-transformers sorts them. One thread at a time: cores that are shared make
        all callers late instead of the last one.
        """
        del found
        if not texts:
            return []
        model = _load(self._folder, self._window)
        batch = CPU_BATCH if model.device.type == "cpu" else GPU_BATCH
        with self._turn:
            scores = model.predict([(query, text) for text in texts], batch_size=batch, show_progress_bar=False)
        return [float(score) for score in scores]

    @cached_property
    def _window(self) -> int:
        """Tokens of question and passage together that the model reads: the least that one of its files allows."""
        named = (
            ("sentence_bert_config.json", "max_seq_length"),
            ("tokenizer_config.json", "model_max_length"),
            ("config.json", "max_position_embeddings"),
        )
        limits = [models.read_json(self._folder, file).get(key) for file, key in named]
        return min([int(limit) for limit in limits if limit and int(limit) > 0], default=512)


def _find(model: str) -> Path:
    """The folder of a model that has a head for pairs: any other would get a random one, and scores of chance."""
    what = f"retrieval.reranker {model!r}"
    try:
        folder = models.find_model(model)
    except BadConfiguration as error:
        fix = "Give a folder, a name on the hub (for a private one set HF_TOKEN), champion, or null for no second stage"
        raise BadConfiguration(what, error.why, fix) from error
    except ServiceUnavailable as error:
        fix = "Check the network or HF_HUB_OFFLINE, give a folder, or null for no second stage"
        raise ServiceUnavailable(what, error.why, fix) from error
    if not has_head(folder):
        architectures = models.read_json(folder, "config.json").get("architectures") or [""]
        why = f"it is no cross-encoder: its architecture is {architectures[0] or 'not named'}, not one …{_HEAD}"
        raise BadConfiguration(what, why, "Name a model that was trained to score pairs, or null for no second stage")
    return folder


def has_head(folder: Path) -> bool:
    """Whether a model was saved with a head that scores pairs."""
    architectures = models.read_json(folder, "config.json").get("architectures") or [""]
    saved_as = models.read_json(folder, "config_sentence_transformers.json").get("model_type")
    return saved_as == "CrossEncoder" or str(architectures[0]).endswith(_HEAD)


def _load(folder: Path, window: int) -> Any:
    """The model, once per process and device, also when two threads ask for it first; one that is loading holds up no other."""
    where = device()
    with _loading.setdefault((folder, window, where), threading.Lock()):
        return _loaded(folder, window, where)


@lru_cache(maxsize=8)  # collections may have a champion each, and the one before it answers while a new one loads
def _loaded(folder: Path, window: int, where: str) -> Any:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("sentence_transformers").setLevel(logging.WARNING)
    import torch
    from sentence_transformers import CrossEncoder
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    try:
        precise = {"dtype": torch.float32}  # whatever the files hold: the fingerprint says so
        model = CrossEncoder(str(folder), max_length=window, device=where, local_files_only=True, model_kwargs=precise)
    except (OSError, ValueError, KeyError) as error:
        raise BadConfiguration(f"reranker {folder} does not load", str(error).splitlines()[0], "Check its files") from error
    if model.num_labels != 1:
        raise BadConfiguration(
            f"reranker {folder}", f"it gives {model.num_labels} scores a pair", "Name a model that was trained with one label"
        )
    return model

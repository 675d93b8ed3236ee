"""Scores an embedder on the development questions: each must find its passages among the others and a sample of the index."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from include.evaluation.measures import score_documents
from include.hashing import canonical_json, text_hash
from include.store import generations
from include.store.passages import sample_passages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from include.store.datasets import Pair
    from include.training.arguments import EmbedderArguments
    from include.training.job import Job

TOP = 10  # nDCG@10 and MRR@10, as everywhere
SLICE = 64  # texts between two looks at whether somebody asked to stop
CPU_BATCH, GPU_BATCH = 8, 128  # texts, as in include.embedding.local


@dataclass(frozen=True)
class DevSet:
    """Questions and the passages that are searched.

    :param qrels: question → uri → grade; a document is found by its best passage.
    :param passages: (uri, text), each once.
    """

    qrels: dict[str, dict[str, int]]
    passages: tuple[tuple[str, str], ...]

    @cached_property
    def fingerprint(self) -> str:
        """Of all questions, judgements and passages."""
        return text_hash(canonical_json([self.qrels, self.passages])).hex


def dev_set(job: Job) -> DevSet | None:
    """The development questions with their passages and hard negatives, and other passages of the live index.

    :return: None when the dataset has no development questions.
    """
    pairs = [pair for pair in job.pairs("dev") if pair.label > 0]
    if not pairs:
        return None
    with job.pool.connection() as connection:
        live = generations.live_generation(connection, job.run.collection_id)
        count = cast("EmbedderArguments", job.arguments).dev_passages
        others = sample_passages(connection, live, count, seed=job.arguments.seed) if live and count else []
    return made_of(pairs, others)


def made_of(pairs: Sequence[Pair], others: Sequence[tuple[str, str]]) -> DevSet:
    """A set of questions, their passages, their negatives, and others."""
    qrels: dict[str, dict[str, int]] = {}
    passages: dict[tuple[str, str], None] = {}
    for pair in pairs:
        qrels.setdefault(pair.query, {})[pair.uri] = 1
        passages[pair.uri, pair.positive] = None
        passages.update({(negative.uri, negative.text): None for negative in pair.negatives})
    passages.update(dict.fromkeys(others))
    return DevSet(qrels, tuple(passages))


class DevScores:
    """Scores a sentence-transformers model on a :class:`DevSet`, as serving would embed: its own window and prompts.

    :param window: tokens that serving reads.
    """

    def __init__(self, job: Job, model: Any, questions: DevSet, window: int | None) -> None:
        self._job, self._model, self._set, self._window = job, model, questions, window
        self._queries = list(questions.qrels)

    @property
    def fingerprint(self) -> str:
        """Of the questions and passages."""
        return self._set.fingerprint

    def __call__(self) -> dict[str, float]:
        """nDCG@10 and MRR@10."""
        return self.by_dimension([None])[None]

    def by_dimension(self, dimensions: Sequence[int | None]) -> dict[int | None, dict[str, float]]:
        """The same for vectors cut to their first numbers; None: whole."""
        training, self._model.max_seq_length = self._model.max_seq_length, self._window or self._model.max_seq_length
        was_training = self._model.training
        self._model.eval()
        try:
            passages = self._embed(self._model.encode_document, [text for _, text in self._set.passages], "score passages")
            queries = self._embed(self._model.encode_query, self._queries, "score questions")
        finally:
            self._model.max_seq_length = training
            self._model.train(was_training)
        return {size: self._score(queries[:, :size], passages[:, :size]) for size in dimensions}

    def _score(self, queries: NDArray[np.float32], passages: NDArray[np.float32]) -> dict[str, float]:
        scores = _unit(queries) @ _unit(passages).T
        rankings = {}
        for query, row in zip(self._queries, scores, strict=True):
            found: dict[str, None] = {}
            for place in np.argsort(-row, kind="stable"):
                found[self._set.passages[place][0]] = None
                if len(found) == TOP:
                    break
            rankings[query] = list(found)
        scored = score_documents(rankings, self._set.qrels, TOP).values()
        return {name: round(float(np.mean([one[name] for one in scored])), 5) for name in (f"ndcg@{TOP}", f"mrr@{TOP}")}

    def _embed(self, encode: Any, texts: list[str], what: str) -> NDArray[np.float32]:
        batch = CPU_BATCH if self._model.device.type == "cpu" else GPU_BATCH
        order = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
        parts = []
        self._job.progress.step(what, len(texts))
        for first in range(0, len(order), SLICE):
            self._job.interruption.check()
            part = [texts[place] for place in order[first : first + SLICE]]
            parts.append(encode(part, batch_size=batch, normalize_embeddings=True, show_progress_bar=False))
            self._job.progress.advance(len(part))
        vectors = np.empty((len(texts), parts[0].shape[1]), dtype=np.float32)
        vectors[order] = np.concatenate(parts)
        return vectors


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), dtype=np.float32)

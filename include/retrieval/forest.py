"""A light reranker: a random forest over cheap features, where there is no time for a cross-encoder.

The trees are plain arrays in a safetensors file: no pickle that could run code, no scikit-learn where searches are served
(its import takes a second), and a model outlives the version that trained it. All trees are walked at once, level by level,
several times as fast as scikit-learn's predict for 50 passages; a test compares the scores of both.
"""

from __future__ import annotations

import hashlib
import math
import threading
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from include.embedding import models
from include.errors import BadData
from include.lexical.terms import TERMS_VERSION
from include.lexical.vocabulary import Vocabulary
from include.retrieval.pair_features import FEATURES, pair_features

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from include.retrieval.rerank import FirstStage

WEIGHTS, SETTINGS = "forest.safetensors", "forest.json"
TERMS, TERM_WEIGHTS = "terms", "term_weights"  # of the vocabulary, beside the trees' arrays
_FIX = "Take a copy that is as it was saved, or train it again"


@dataclass(frozen=True, slots=True, eq=False)
class Trees:
    """A forest as arrays over all nodes of all trees; a leaf is its own child, every other node comes before its children.

    A row goes on where its ``feature`` is at most ``threshold``, or where it is NaN and ``missing`` says so.

    :param roots: first node of each tree, of shape (trees,).
    :param children: where a row goes that does not go on, and one that does, of shape (nodes, 2).
    :param feature: of shape (nodes,), as ``threshold``, ``missing`` and ``value``.
    :param value: what a leaf answers; a row's score is the mean over the trees.
    """

    roots: NDArray[np.integer[Any]]
    children: NDArray[np.integer[Any]]
    feature: NDArray[np.integer[Any]]
    threshold: NDArray[np.float64]
    missing: NDArray[np.bool_]
    value: NDArray[np.float64]

    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """One score a row, of shape (rows,).

        :param rows: of shape (rows, features), NaN for what is not known.
        """
        known, children = rows.ravel(), self.children.ravel()
        walks = np.arange(len(rows) * len(self.roots))
        nodes, first = np.tile(self.roots, len(rows)), np.repeat(np.arange(len(rows)) * rows.shape[1], len(self.roots))
        answers, some_missing = np.empty(len(walks)), bool(np.isnan(known).any())
        while len(nodes):
            values = known.take(first + self.feature.take(nodes))
            goes_on = values <= self.threshold.take(nodes)
            if some_missing:
                goes_on |= np.isnan(values) & self.missing.take(nodes)
            below = children.take(2 * nodes + goes_on)
            ended = below == nodes
            answers[walks[ended]] = self.value.take(nodes[ended])
            nodes, first, walks = below[~ended], first[~ended], walks[~ended]
        return np.asarray(answers.reshape(len(rows), -1).mean(axis=1), dtype=np.float64)

    def problem(self, features: int) -> str:
        """Why these arrays are no forest over so many features; empty when they are one, and every walk ends at a leaf."""
        count = len(self.value)
        nodes = [self.feature, self.threshold, self.missing, self.value]
        if self.children.shape != (count, 2) or any(array.shape != (count,) for array in nodes) or self.roots.ndim != 1:
            return "its arrays differ in length"
        if not len(self.roots) or not count or self.roots.min() < 0 or self.roots.max() >= count:
            return "it has no trees, or they begin outside"
        here = np.arange(count)[:, None]
        if (self.children < here).any() or self.children.max() >= count:
            return "a node has a child that is none"
        if ((self.children == here).sum(axis=1) == 1).any():
            return "a node has half a leaf"
        if self.feature.min() < 0 or self.feature.max() >= features:
            return "a node asks for a feature that there is not"
        # A threshold of infinity tells what is known from what is not.
        return "a value is no number" if np.isnan(self.threshold).any() or not np.isfinite(self.value).all() else ""


class ForestReranker:
    """A forest from a folder that a training saved; read by the first text, then never changed, so threads share it.

    :param name: what the collection file calls it.
    :param weight: the share of its score in the final one that was fitted for it.
    """

    def __init__(self, folder: Path, *, name: str | None = None, weight: float | None = None) -> None:
        self.name, self.weight = name or str(folder), weight
        self._folder = folder
        self._loading = threading.Lock()
        self._settings = _read_settings(folder)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of both files, and how words are cut."""
        digest = hashlib.blake2b(digest_size=16)
        for name in (SETTINGS, WEIGHTS):
            digest.update(_read(self._folder, name))
        return f"forest:{digest.hexdigest()}:{TERMS_VERSION}"

    def score(self, query: str, texts: Sequence[str], found: Sequence[FirstStage] | None = None) -> list[float]:
        """One score a text, 0 to 1 and more the likelier it answers; without ``found`` by the words alone."""
        if not texts:
            return []
        trees, vocabulary = self._model
        return [float(score) for score in trees.score(pair_features(vocabulary, query, texts, found))]

    @property
    def _model(self) -> tuple[Trees, Vocabulary]:
        with self._loading:
            return self._loaded

    @cached_property
    def _loaded(self) -> tuple[Trees, Vocabulary]:
        return _load(self._folder, self._settings)


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise BadData(f"reranker {folder}", f"{name} cannot be read ({error.strerror})", _FIX) from error


def _read_settings(folder: Path) -> dict[str, Any]:
    """What the trees ask for, and how words were cut.

    :raises BadData: it was trained on features that this release does not have, or the files are not as they were saved.
    """
    settings = models.read_json(folder, SETTINGS)
    if settings.get("features") != list(FEATURES) or settings.get("terms_version") != TERMS_VERSION:
        why = "it was trained on other features than this release has" if settings else f"{SETTINGS} is missing"
        raise BadData(f"reranker {folder}", why, "Train it again")
    saved = models.read_json(folder, "ragworks.json").get("files") or {}
    for name in (SETTINGS, WEIGHTS):
        if name in saved and hashlib.sha256(_read(folder, name)).hexdigest() != saved[name]:
            raise BadData(f"reranker {folder}", f"{name} is not as it was saved", _FIX)
    return settings


def _load(folder: Path, settings: dict[str, Any]) -> tuple[Trees, Vocabulary]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(_read(folder, WEIGHTS))
        weights = dict(zip(arrays[TERMS].tolist(), arrays[TERM_WEIGHTS].tolist(), strict=True))
        trees = Trees(**{field.name: _for_indexing(arrays[field.name]) for field in fields(Trees)})
        vocabulary = Vocabulary(settings["language"], weights, settings["unseen"], settings["average_terms"])
        problem = trees.problem(len(FEATURES))
        if not all(0 < weight < math.inf for weight in weights.values()):
            problem = "a term's weight is no number above 0"
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        problem = f"{WEIGHTS} is damaged ({error})"
    if problem:
        raise BadData(f"reranker {folder}", problem, _FIX)
    return trees, vocabulary


def _for_indexing(array: NDArray[Any]) -> NDArray[Any]:
    """Numbers of nodes as numpy takes them: it would convert them at each step."""
    return array.astype(np.intp) if array.dtype == np.int32 else array

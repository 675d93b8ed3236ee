"""Trains the light reranker: a random forest over what the first stage says and how the words meet.

It learns from the candidates of the training questions, which are what it will be asked to order. Those that the dataset calls
right are right; the others count as wrong, also where the first stage ranks them above the right one, since these are what it
must learn to put below. Left out is what may well be right: other passages of a right document where characters are judged,
and passages that say nearly the same as a right one.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from include.datasets.split import grouped
from include.errors import BadData
from include.evaluation.relevance import covers
from include.lexical.terms import TERMS_VERSION
from include.retrieval.forest import SETTINGS, TERM_WEIGHTS, TERMS, WEIGHTS, Trees
from include.retrieval.pair_features import FEATURES, FIRST_STAGE, pair_features

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from include.lexical.terms import Analyzer
    from include.lexical.vocabulary import Vocabulary
    from include.store.golden import GoldenQuery
    from include.store.search import Hit
    from include.training.arguments import RerankerArguments
    from include.training.two_stage import Candidates

SAME = 0.8  # share of shared words (Jaccard) from which two passages say nearly the same: near_duplicates.threshold's default
BLANKED = 0.1  # share of the questions of which it learns without the first stage, as /v1/rerank asks
FOLDS, FOLD_TREES = 5, 100  # of the forests that score what they did not learn from, and are thrown away: fewer trees will do


@dataclass(frozen=True, slots=True)
class Judged:
    """The candidates of one question.

    :param features: of shape (passages, :data:`FEATURES`).
    :param labels: 1 right, 0 wrong, NaN left out; one a passage.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.float64]

    @property
    def teaches(self) -> bool:
        """Whether there is something right to be told from something wrong."""
        return bool((self.labels == 1).any() and (self.labels == 0).any())


@dataclass(frozen=True, slots=True)
class Examples:
    """Rows to learn from.

    :param rows: features, of shape (examples, :data:`FEATURES`).
    :param labels: 1 right, 0 wrong; ``weights`` make each question count the same, half for its right passages.
    """

    rows: NDArray[np.float32]
    labels: NDArray[np.float64]
    weights: NDArray[np.float64]


def judged(vocabulary: Vocabulary, candidates: Iterable[Candidates]) -> list[Judged]:
    """Label the candidates of the training questions.

    :raises BadData: nothing can be learned from any of them.
    """
    found = [
        Judged(
            pair_features(vocabulary, one.query.query, one.texts, one.found),
            np.array(labels_of(vocabulary.analyzer, one.query, one.hits[: len(one.found)]), dtype=np.float64),
        )
        for one in candidates
    ]
    if not any(one.teaches for one in found):
        raise BadData(
            f"{len(found)} training questions: all labels are alike",
            "the first stage finds right and wrong passages together for none of them",
            "Check that the dataset's documents are in the live index, or raise rerank_candidates",
        )
    return found


def examples(questions: Iterable[Judged], *, seed: int) -> Examples:
    """What is learned of them; of a question whose answer was not found it is nothing. At least one teaches."""
    draw = random.Random(seed)
    rows, labels, weights = [], [], []
    for one in questions:
        if not one.teaches:
            continue
        kept = ~np.isnan(one.labels)
        features, marks = one.features[kept], one.labels[kept]
        if draw.random() < BLANKED:
            features[:, : len(FIRST_STAGE)] = np.nan
        rows.append(features)
        labels.append(marks)
        weights.append(np.where(marks > 0, 0.5 / marks.sum(), 0.5 / (1 - marks).sum()))
    return Examples(np.concatenate(rows), np.concatenate(labels), np.concatenate(weights))


def out_of_fold(
    questions: Sequence[Judged],
    folds: Sequence[int],
    arguments: RerankerArguments,
    *,
    jobs: int,
    check: Callable[[], None] = lambda: None,
) -> dict[int, list[float]]:
    """What trees say of the candidates of questions that they did not learn from, by the question's number.

    :param folds: of each question; see :func:`folds_of`.
    :param check: called before each forest; what it raises ends the work.
    """
    fewer = arguments.model_copy(update={"trees": min(arguments.trees, FOLD_TREES)})
    scores: dict[int, list[float]] = {}
    for fold in sorted(set(folds)):
        check()
        others = [one for one, own in zip(questions, folds, strict=True) if own != fold]
        if any(one.teaches for one in others):
            trees = grow(examples(others, seed=arguments.seed), fewer, jobs=jobs)
            asked = [number for number, own in enumerate(folds) if own == fold]
            scores |= {number: trees.score(questions[number].features).tolist() for number in asked}
    return scores


def folds_of(candidates: Sequence[Candidates]) -> list[int]:
    """A fold for each question; those that share a right document are in the same one."""
    folds = [0] * len(candidates)
    sizes = [0] * FOLDS
    groups = grouped([[span.document for span in one.query.spans] for one in candidates])
    for members in sorted(groups.values(), key=lambda members: (-len(members), members)):
        smallest = sizes.index(min(sizes))
        sizes[smallest] += len(members)
        for number in members:
            folds[number] = smallest
    return folds


def labels_of(analyzer: Analyzer, query: GoldenQuery, hits: Sequence[Hit]) -> list[float | None]:
    """1 for a passage that the dataset calls right, 0 for one that counts as wrong, None for one that is left out."""
    right = [any(covers(hit, span) for span in query.spans) for hit in hits]
    documents = {span.document for span in query.spans}
    words = [set(analyzer.sequence(hit.text)) for hit in hits]
    answers = [words[n] for n, is_right in enumerate(right) if is_right]
    return [
        1.0 if right[n] else None if hit.document in documents or any(_alike(words[n], one) for one in answers) else 0.0
        for n, hit in enumerate(hits)
    ]


def grow(learned: Examples, arguments: RerankerArguments, *, jobs: int) -> Trees:
    """Grow the forest; the same examples and seed give the same one, whatever the number of jobs."""
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(
        n_estimators=arguments.trees,
        max_depth=arguments.max_depth,
        min_samples_leaf=arguments.min_leaf,
        max_features="sqrt",
        n_jobs=jobs,
        random_state=arguments.seed,
    )
    forest.fit(learned.rows, learned.labels, sample_weight=learned.weights)
    return trees_of(forest)


def trees_of(forest: Any) -> Trees:
    """The nodes of scikit-learn's trees one after the other; a leaf becomes its own child."""
    trees = [estimator.tree_ for estimator in forest.estimators_]
    starts = np.cumsum([0, *(tree.node_count for tree in trees)])
    children = [
        np.where(child < 0, np.arange(tree.node_count), child) + start
        for tree, start in zip(trees, starts, strict=False)
        for child in (tree.children_right, tree.children_left)
    ]
    leaf = np.concatenate([tree.children_left < 0 for tree in trees])
    return Trees(
        roots=starts[:-1].astype(np.int32),
        children=np.stack([np.concatenate(children[::2]), np.concatenate(children[1::2])], axis=1).astype(np.int32),
        feature=np.where(leaf, 0, np.concatenate([tree.feature for tree in trees])).astype(np.int32),
        threshold=np.where(leaf, 0.0, np.concatenate([tree.threshold for tree in trees])),
        missing=np.concatenate([tree.missing_go_to_left for tree in trees]).astype(np.bool_),
        value=np.concatenate([tree.value[:, 0, 0] for tree in trees]).astype(np.float64),
    )


def save(trees: Trees, vocabulary: Vocabulary, folder: Path) -> None:
    """Write what :class:`include.retrieval.forest.ForestReranker` reads.

    :param vocabulary: the one that its examples were made with.
    """
    from safetensors.numpy import save as as_bytes

    folder.mkdir(parents=True, exist_ok=True)
    arrays = {field.name: np.ascontiguousarray(getattr(trees, field.name)) for field in fields(Trees)}
    arrays[TERMS] = np.array(list(vocabulary.weights), dtype=np.int32)
    arrays[TERM_WEIGHTS] = np.array(list(vocabulary.weights.values()), dtype=np.float64)
    (folder / WEIGHTS).write_bytes(as_bytes(arrays))  # save_file would let nobody else read it
    settings = {
        "features": list(FEATURES), "language": vocabulary.language, "terms_version": TERMS_VERSION,
        "unseen": vocabulary.unseen, "average_terms": vocabulary.average,
    }  # fmt: skip
    (folder / SETTINGS).write_text(json.dumps(settings, indent=1), encoding="utf-8")


def _alike(one: set[int], other: set[int]) -> bool:
    return len(one & other) >= SAME * len(one | other)

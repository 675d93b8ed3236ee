"""Trains a reranker: a cross-encoder, or the light one, behind the first stage that the collection has now.

A cross-encoder learns from lists: one right passage among wrong ones that the index finds too. The loss is softmax
cross-entropy over a list (ListNet, Cao and others 2007, with all the weight on the right passage), since what counts is the
order within a question: pairs judged one by one (binary cross-entropy) must also learn a scale for all questions, for which
few pairs do not suffice. Its scores are logits without a common scale; blending scales them for each question.
"""

from __future__ import annotations

import logging
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from include.errors import BadConfiguration, BadData
from include.hashing import canonical_json, text_hash
from include.lexical import bm25
from include.lexical.vocabulary import vocabulary_of
from include.retrieval.cross_encoder import CPU_BATCH, GPU_BATCH, CrossEncoderReranker, has_head
from include.retrieval.forest import ForestReranker
from include.training import forest
from include.training.arguments import RerankerArguments
from include.training.job import Trained
from include.training.lists import ranked_lists
from include.training.resumable import fit, resumable, trainer_arguments
from include.training.two_stage import FirstStageOf, judge, questions_of, score_with

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from include.store.golden import GoldenQuery
    from include.training.job import Job
    from include.training.lists import RankedList
    from include.training.two_stage import Candidates, TwoStage

logger = logging.getLogger(__name__)

SELECT = "ndcg@10"
SHARPNESS = 10.0  # of the labels, whose softmax is what is learned: the right passage has 0.9999 of it
HEAD = r"\.(classifier|pre_classifier|pooler|head|score)\."  # parameters of a head, as transformers names them
DEV_CANDIDATES = 20  # two cores read as many in about the latency budget: docs/reranking.md
FOREST_QUESTIONS = 2000  # 100,000 candidates: more make a forest slower to grow, hardly better


def train_reranker(job: Job) -> Trained:
    """Train what the arguments ask for; the weight of its score is fitted on the development questions.

    :raises BadData: all labels are alike, or there are no development questions.
    :raises BadConfiguration: the base is not one that a reranker can be made of.
    :raises Interrupted: somebody asked to stop.
    """
    arguments = job.arguments
    if not isinstance(arguments, RerankerArguments):
        raise TypeError(f"arguments of a {type(arguments).__name__} given to the reranker")
    first = FirstStageOf(job.settings, job.pool, job.collection, job.interruption)
    dev = _drawn(questions_of(job.pairs("dev"), as_judged=True), arguments.dev_questions, arguments.seed)
    if not dev:
        fix = "Build it with a larger dev_share, or correct its splits"
        raise BadData(f"dataset {job.dataset.name} version {job.dataset.version}", "it has no development questions", fix)
    made = _train_forest if arguments.kind == "forest" else _train_cross_encoder
    trained, two = made(job, arguments, first, dev)
    logger.info(
        "%s: %s %.4f by the first stage, %.4f by the reranker, %.4f by both with a weight of %.2f, at best %.4f",
        trained.kind, SELECT, *(two.details[one][SELECT] for one in ("first_stage", "reranker", "blended")), two.weight,
        two.details["oracle"][SELECT],
    )  # fmt: skip
    return trained


def _trained(job: Job, folder: Path, kind: str, fingerprint: str, step: int, two: TwoStage, details: dict[str, Any]) -> Trained:
    settings = {"rerank_weight": two.weight, "rerank_candidates": two.details["candidates"]}
    return Trained(folder, kind, fingerprint, step, settings, {**details, "dev": two.details})


def _train_forest(
    job: Job, arguments: RerankerArguments, first: FirstStageOf, dev: Sequence[GoldenQuery]
) -> tuple[Trained, TwoStage]:
    read = arguments.rerank_candidates or first.retrieval.rerank_candidates
    words = bm25.recorded(first.generation.spec)
    pairs = job.pairs("train")
    questions = _drawn(questions_of(pairs), FOREST_QUESTIONS, arguments.seed)
    found = first.all_candidates(questions, read, "training questions", job.progress)
    vocabulary = vocabulary_of(words.language if words else None, (text for one in found for text in one.texts))
    judged = forest.judged(vocabulary, found)
    learned = forest.examples(judged, seed=arguments.seed)
    job.progress.step("grow trees", None)
    trees = forest.grow(learned, arguments, jobs=job.hardware.threads)
    job.interruption.check()
    folder = job.staging / "model"
    forest.save(trees, vocabulary, folder)
    reranker = ForestReranker(folder)
    candidates = first.all_candidates(dev, read, "development questions", job.progress)
    scores = score_with(reranker.score, candidates, job.progress)
    # A few development questions fit a weight by luck, and trees are quick: all training questions have part in it too, each
    # scored by trees that learned from none of its documents.
    others = forest.out_of_fold(
        judged, forest.folds_of(found), arguments, jobs=job.hardware.threads, check=job.interruption.check
    )
    whole = {query.query: query for query in questions_of(pairs, as_judged=True)}
    further = [replace(found[number], query=whole[found[number].query.query]) for number in others]
    two = judge([*candidates, *further], [*scores, *others.values()])
    details = {
        "examples": {"questions": len(questions), "right": int((learned.labels > 0).sum()), "passages": len(learned.labels)},
        "trees": {"trees": len(trees.roots), "nodes": len(trees.value)},
        "finished": "all trees",
    }
    return _trained(job, folder, "forest", reranker.fingerprint, len(trees.roots), two, details), two


def _train_cross_encoder(
    job: Job, arguments: RerankerArguments, first: FirstStageOf, dev: Sequence[GoldenQuery]
) -> tuple[Trained, TwoStage]:
    lists = ranked_lists(job.pairs("train"), arguments.negatives, seed=arguments.seed)
    model, new_head = open_base(job.base, arguments)
    read = arguments.rerank_candidates or DEV_CANDIDATES
    candidates = first.all_candidates(dev, read, "development questions", job.progress)
    trainer = _trainer(job, arguments, model, lists, new_head)
    evaluator = _OnDevelopment(job, trainer, candidates, new_head)
    fitted = fit(job, trainer, evaluator, select=SELECT)
    two = evaluator.two_stage(int(fitted.best["step"]) if fitted.best else fitted.step)
    folder = job.staging / "model"
    model.save_pretrained(str(folder), create_model_card=False)
    details = {**fitted.details, "lists": len(lists), "new_head": new_head}
    fingerprint = CrossEncoderReranker(str(folder)).fingerprint
    return _trained(job, folder, "cross-encoder", fingerprint, fitted.step, two, details), two


def open_base(base: Path | None, arguments: RerankerArguments) -> tuple[Any, bool]:
    """A cross-encoder in fp32 with one score a pair, and whether its head is new; the seed decides the head.

    :raises BadConfiguration: it is no model that reads pairs.
    """
    import torch
    from sentence_transformers import CrossEncoder
    from torch import nn
    from transformers import set_seed

    if base is None or not (base / "config.json").is_file():
        raise BadConfiguration(f"base {base}", "it is no transformer", "Name an encoder or a cross-encoder to start from")
    set_seed(arguments.seed)
    new_head = not has_head(base)
    try:
        model = CrossEncoder(
            str(base), num_labels=1, max_length=arguments.max_length, activation_fn=nn.Identity(), local_files_only=True,
            model_kwargs={"dtype": torch.float32},
        )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError) as error:  # RuntimeError: a head with several labels
        why = str(error).splitlines()[0][:300]
        raise BadConfiguration(
            f"base {base}", f"no reranker can be made of it: {why}", "Name an encoder to start from"
        ) from error
    return model, new_head


def _trainer(job: Job, arguments: RerankerArguments, model: Any, lists: Sequence[RankedList], new_head: bool) -> Any:
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
    from sentence_transformers.cross_encoder.losses import ListNetLoss

    from datasets import Dataset

    rows = Dataset.from_dict(
        {
            "query": [one.query for one in lists],
            "texts": [list(one.texts) for one in lists],
            "label": [[SHARPNESS * label for label in one.labels] for one in lists],
        }
    )
    faster = {HEAD: arguments.head_rate * arguments.learning_rate} if new_head else {}
    return resumable(CrossEncoderTrainer)(
        model=model,
        args=trainer_arguments(job, CrossEncoderTrainingArguments, learning_rate_mapping=faster),
        train_dataset=rows,
        loss=ListNetLoss(model, mini_batch_size=-1 if job.hardware.gpus else None),
    )


class _OnDevelopment:
    """Both stages on the development questions, by the model as it is now; see :class:`include.training.watch.Evaluator`."""

    def __init__(self, job: Job, trainer: Any, candidates: Sequence[Candidates], new_head: bool) -> None:
        self._job, self._trainer, self._candidates, self._new_head = job, trainer, candidates, new_head
        self._judged: dict[int, TwoStage] = {}
        read = [[one.query.query, [[span.document, span.grade] for span in one.query.spans], one.texts] for one in candidates]
        self.fingerprint = text_hash(canonical_json(read)).hex

    def __call__(self) -> dict[str, float]:
        """nDCG@10 of both stages with the best weight, and of each alone."""
        step = int(self._trainer.state.global_step)
        untrained = self._new_head and step == 0  # a head of random weights: the first stage alone is as good
        two = judge(self._candidates, [[0.0] * len(one.found) for one in self._candidates]) if untrained else self._scored()
        self._judged[step] = two
        alone = {stage: two.details[stage][SELECT] for stage in ("first_stage", "reranker")}
        return {SELECT: two.ndcg, **alone, "rerank_weight": 0.0 if untrained else two.weight}

    def two_stage(self, step: int) -> TwoStage:
        """By the model's weights, which are those of ``step``; scored again when another attempt did it."""
        return self._judged.get(step) or self._scored()

    def _scored(self) -> TwoStage:
        model, batch = self._trainer.model, GPU_BATCH if self._job.hardware.gpus else CPU_BATCH

        def score(query: str, texts: Sequence[str], found: object) -> Any:
            del found
            self._job.interruption.check()
            return model.predict([(query, text) for text in texts], batch_size=batch, show_progress_bar=False)

        was_training = model.training
        try:
            return judge(self._candidates, score_with(score, self._candidates, self._job.progress))
        finally:
            model.train(was_training)


def _drawn(questions: list[GoldenQuery], most: int, seed: int) -> list[GoldenQuery]:
    """So many at most, always the same ones."""
    return questions if len(questions) <= most else random.Random(seed).sample(questions, most)

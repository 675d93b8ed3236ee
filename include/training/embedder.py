"""Trains an embedder: questions are drawn to their passages and away from all other passages of the batch.

The loss is MultipleNegativesRankingLoss (Henderson et al. 2017); with a batch that does not fit into memory its gradients are
cached (GradCache, Gao et al. 2021), which gives the same loss over the whole batch. Gradient accumulation would not: its
negatives are those of one small batch each, and so it is not offered.
"""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING, Any, cast

from include.embedding.local import LocalEmbedder
from include.errors import BadConfiguration, BadData
from include.training.dev import DevScores, dev_set
from include.training.job import Trained
from include.training.lora import add_lora, merge_lora
from include.training.resumable import fit, resumable, trainer_arguments

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from include.store.datasets import Pair
    from include.training.arguments import EmbedderArguments
    from include.training.job import Job

logger = logging.getLogger(__name__)

SELECT = "ndcg@10"
DOCUMENT_PROMPTS = ("document", "passage", "corpus")  # in the order that encode_document looks for them


def train_embedder(job: Job) -> Trained:
    """Train an embedder in the job's staging.

    :raises BadData: the dataset holds fewer than two pairs.
    :raises BadConfiguration: the base does not load, or a dimension is larger than its own.
    """
    arguments = cast("EmbedderArguments", job.arguments)
    # 1. Data.
    pairs = [pair for pair in job.pairs("train") if pair.label > 0]
    if len(pairs) < 2:
        raise BadData(
            f"dataset {job.dataset.name} has {len(pairs)} training pairs", "a question needs other passages as negatives",
            "Build a larger dataset",
        )  # fmt: skip
    columns, filled = training_columns(pairs, arguments.hard_negatives, seed=arguments.seed)
    # 2. Model, and the window that serving reads.
    model = load_base(job.base)
    _check(model, arguments)
    window = model.max_seq_length
    model.max_seq_length = min(arguments.max_length, window or arguments.max_length)
    adapter = add_lora(model, arguments.lora_rank, arguments.lora_alpha, seed=arguments.seed) if arguments.lora_rank else None
    # 3. The evaluator: the same before, during and after.
    questions = dev_set(job)
    evaluate = DevScores(job, model, questions, window) if questions else None
    if evaluate is None:
        logger.warning("the dataset has no development questions: the last step is kept, whatever it is worth")
    # 4. Train.
    trainer = make_trainer(job, model, columns)
    done = fit(job, trainer, evaluate, select=SELECT)
    # 5. What serving loads: one plain folder.
    dimensions = evaluate.by_dimension(arguments.matryoshka) if evaluate and arguments.matryoshka else {}
    if adapter is not None:
        merge_lora(model, adapter)
    model.max_seq_length = window
    folder = save_model(model, job.staging / "model")
    details = done.details | {
        "pairs": len(pairs),
        "filled_negatives": filled,
        "dev_questions": len(questions.qrels) if questions else 0,
        "dev_passages": len(questions.passages) if questions else 0,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "matryoshka": {str(size): scores for size, scores in dimensions.items()},
    }
    return Trained(folder, "embedder", LocalEmbedder(str(folder)).fingerprint, done.step, {}, details)


def training_columns(pairs: Sequence[Pair], hard_negatives: int, *, seed: int) -> tuple[dict[str, list[str]], int]:
    """The columns of the trainer's dataset: anchor, positive, and a column for each hard negative.

    Every row has as many: one that lacks some takes passages of other questions, never one that is right for its own.

    :return: the columns, and how many negatives were taken so.
    :raises BadData: a row lacks some, and every passage is right for its question.
    """
    draw = random.Random(seed)
    right: dict[str, set[str]] = {}
    for pair in pairs:
        right.setdefault(pair.query, set()).add(pair.positive)
    columns: dict[str, list[str]] = {"anchor": [pair.query for pair in pairs], "positive": [pair.positive for pair in pairs]}
    columns |= {f"negative_{n}": [] for n in range(1, hard_negatives + 1)}
    filled = 0
    passages = {pair.positive for pair in pairs}
    for pair in pairs if hard_negatives else ():
        chosen = [one.text for one in pair.negatives if one.text not in right[pair.query]][:hard_negatives]
        if len(chosen) < hard_negatives and passages <= right[pair.query]:
            raise BadData(
                "all labels are alike", "one question has every passage of the set as its right one, so none is wrong for it",
                "Add pairs of other passages, give it negatives, or set hard_negatives to 0",
            )  # fmt: skip
        while len(chosen) < hard_negatives:
            other = pairs[draw.randrange(len(pairs))].positive
            if other in right[pair.query]:
                continue
            chosen.append(other)
            filled += 1
        for n, text in enumerate(chosen, 1):
            columns[f"negative_{n}"].append(text)
    if filled:
        logger.info("%d of %d hard negatives were missing: passages of other questions take their place", filled,
                    hard_negatives * len(pairs))  # fmt: skip
    return columns, filled


def make_trainer(job: Job, model: Any, columns: dict[str, list[str]]) -> Any:
    """The trainer of a model; texts get the prompts that the model puts before them when it serves."""
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.training_args import BatchSamplers

    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    args = trainer_arguments(
        job,
        SentenceTransformerTrainingArguments,
        batch_sampler=BatchSamplers.NO_DUPLICATES,  # the same passage twice would be its own negative
        prompts=prompts(model, list(columns)),
    )
    return resumable(SentenceTransformerTrainer)(
        model=model, args=args, train_dataset=Dataset.from_dict(columns), loss=make_loss(model, job.arguments)
    )


def make_loss(model: Any, arguments: Any) -> Any:
    """The loss of an embedder's arguments: gradients are cached only where the batch is larger than what fits at once."""
    from sentence_transformers.sentence_transformer.losses import (
        CachedMultipleNegativesRankingLoss,
        MatryoshkaLoss,
        MultipleNegativesRankingLoss,
    )

    if arguments.batch_size > arguments.mini_batch_size:
        loss = CachedMultipleNegativesRankingLoss(
            model, scale=arguments.scale, mini_batch_size=arguments.mini_batch_size, show_progress_bar=False
        )
    else:
        loss = MultipleNegativesRankingLoss(model, scale=arguments.scale)
    if not arguments.matryoshka:
        return loss
    whole = model.get_embedding_dimension()
    return MatryoshkaLoss(model, loss, matryoshka_dims=[whole, *(size for size in arguments.matryoshka if size != whole)])


def prompts(model: Any, columns: Sequence[str]) -> dict[str, str]:
    """Column → the prompt that encode_query or encode_document would put before its texts."""
    default = model.prompts.get(model.default_prompt_name or "", "")
    query = model.prompts.get("query", default)
    document = next((model.prompts[name] for name in DOCUMENT_PROMPTS if name in model.prompts), default)
    found = {column: query if column == "anchor" else document for column in columns}
    return {column: prompt for column, prompt in found.items() if prompt}


def load_base(folder: Path | None) -> Any:
    """The model that training starts from, in fp32.

    :raises BadConfiguration: it does not load.
    """
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    logging.getLogger("sentence_transformers").setLevel(logging.WARNING)
    try:
        return SentenceTransformer(str(folder), local_files_only=True, model_kwargs={"dtype": torch.float32})
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadConfiguration(f"base {folder} does not load", reason, "Check its files, or name another base") from error


def save_model(model: Any, folder: Path) -> Path:
    """Write a model as serving loads it; the same weights give the same files, whatever was read before."""
    fast = getattr(model.tokenizer, "backend_tokenizer", None)
    if fast is not None:  # it would keep how the last text was cut and padded
        fast.no_truncation()
        fast.no_padding()
    model.save_pretrained(str(folder), create_model_card=False)
    return folder


def _check(model: Any, arguments: EmbedderArguments) -> None:
    """Refuse what this kind of model cannot do, before anything is trained."""
    from sentence_transformers.sentence_transformer.modules import Router

    whole = model.get_embedding_dimension()
    if whole and any(size > whole for size in arguments.matryoshka):
        raise BadConfiguration(
            f"arguments of the embedder: matryoshka: {list(arguments.matryoshka)}", f"the model has {whole} dimensions",
            f"Write dimensions up to {whole}",
        )  # fmt: skip
    if any(isinstance(module, Router) for module in model.children()):
        raise BadConfiguration(
            "the base reads questions and passages with different layers", "that kind is not trained here", "Name another base"
        )
    if model.transformers_model is None:
        raise BadConfiguration("the base is no transformer", "that kind is not trained here", "Name another base")

"""What a training can be told: checked once, kept in its row, shown as the form of its DAG and the options of its command."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from include.errors import BadConfiguration

if TYPE_CHECKING:
    from collections.abc import Mapping

Model = TypeVar("Model", bound=BaseModel)


class TrainingArguments(BaseModel):
    """What all families have in common. The same arguments, data and base give the same model on the same machine."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    base: str = Field(
        default="",
        max_length=1000,
        description="Model to start from: packaged name, folder, hub name, or champion; empty: the collection's own.",
    )
    epochs: int = Field(default=3, ge=1, le=1000, description="Times that all pairs are seen.")
    max_steps: int = Field(default=0, ge=0, description="Optimiser steps, in place of epochs; 0: by epochs.")
    max_seconds: int = Field(
        default=0, ge=0, description="Training stops in order after so many seconds, all attempts together; 0: no limit."
    )
    batch_size: int = Field(default=32, ge=2, le=65_536, description="Pairs in a step.")
    learning_rate: float = Field(default=5e-5, gt=0, le=1, description="The highest; it rises, then falls to 0.")
    warmup: float = Field(default=0.1, ge=0, lt=1, description="Share of the steps in which the learning rate rises.")
    weight_decay: float = Field(default=0.0, ge=0, le=1, description="Of AdamW.")
    max_length: int = Field(
        default=128, ge=8, le=32_768, description="Tokens of a text that training reads; serving reads the model's own window."
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        default="auto", description="Arithmetic; auto: bf16 on a GPU that has it, fp32 elsewhere (it is slower on a CPU)."
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="Of the order of the data and all else that is drawn.")
    log_steps: int = Field(default=10, ge=1, description="Steps between two points of the loss curve.")
    evaluate_steps: int = Field(
        default=0, ge=0, description="Steps between two scores on the development questions; 0: after each epoch."
    )
    checkpoint_seconds: int = Field(default=300, ge=0, description="Seconds between two checkpoints; 0: by steps alone.")
    checkpoint_steps: int = Field(default=0, ge=0, description="Steps between two checkpoints; 0: by time alone.")

    @property
    def step_size(self) -> int:
        """Rows of the data in a step."""
        return self.batch_size


class RetrievalArguments(TrainingArguments):
    """Of models that search."""

    dev_passages: int = Field(
        default=500, ge=0, le=100_000, description="Other passages among which development questions must find theirs."
    )


class EmbedderArguments(RetrievalArguments):
    """Of an embedder: contrastive, with all other passages of the batch as negatives."""

    batch_size: int = Field(
        default=32, ge=2, le=65_536, description="Pairs in a step; each question has the other pairs' passages as negatives."
    )
    mini_batch_size: int = Field(
        default=32,
        ge=1,
        le=65_536,
        description="Texts in memory at once; below batch_size gradients are cached: the same loss, slower, in less memory.",
    )
    hard_negatives: int = Field(default=0, ge=0, le=16, description="Mined negatives of each pair that are used besides.")
    scale: float = Field(default=20.0, gt=0, le=1000, description="Of the cosine in the loss: 1 / temperature.")
    matryoshka: tuple[int, ...] = Field(
        default=(), strict=False, description="Dimensions that shall do alone, such as [256, 128]; empty: the full one alone."
    )
    lora_rank: int = Field(default=0, ge=0, le=1024, description="Rank of a LoRA adapter; 0: all weights are trained.")
    lora_alpha: int = Field(default=64, ge=1, le=4096, description="Its scale; used with lora_rank.")

    @field_validator("matryoshka")
    @classmethod
    def _falling(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(size < 1 for size in value) or len(set(value)) != len(value):
            raise ValueError("dimensions are whole numbers above 0, each once")
        return tuple(sorted(value, reverse=True))


class RerankerArguments(RetrievalArguments):
    """Of a reranker: a cross-encoder, or a forest over cheap features where there is no time for one."""

    kind: Literal["cross-encoder", "forest"] = Field(
        default="cross-encoder", description="A model that reads both texts, or a forest over scores and weighted overlaps."
    )
    epochs: int = Field(default=1, ge=1, le=1000, description="Times that all pairs are seen.")
    batch_size: int = Field(
        default=8, ge=1, le=65_536, description="Questions in a step, each with its right passage and the wrong ones."
    )
    head_rate: float = Field(
        default=10.0, ge=1, le=1000, description="Times the learning rate for a new head, which knows nothing yet."
    )
    weight_decay: float = Field(default=0.01, ge=0, le=1, description="Of AdamW.")
    max_length: int = Field(default=192, ge=8, le=32_768, description="Tokens of question and passage together.")
    negatives: int = Field(default=3, ge=1, le=64, description="Wrong passages beside each right one.")
    rerank_candidates: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="Passages of the first stage that are reranked in development; 0: 20, of a forest as many as in search.",
    )
    dev_questions: int = Field(
        default=200, ge=1, le=100_000, description="Development questions that are reranked; of more, some, always the same."
    )
    trees: int = Field(default=300, ge=10, le=5000, description="Of a forest.")
    max_depth: int = Field(default=20, ge=1, le=50, description="Questions that a tree asks of a passage at most.")
    min_leaf: int = Field(default=5, ge=1, le=10_000, description="Fewest training passages at the end of a tree.")


class LlmArguments(TrainingArguments):
    """Of a language model: an adapter (LoRA) beside the weights of a base, which stay as they are."""

    method: Literal["sft", "dpo"] = Field(
        default="sft",
        description="sft: answers as the conversations have them. dpo: the preferred answer of two; it wants preferences.",
    )
    quantisation: Literal["none", "nf4", "int8"] = Field(
        default="none", description="How the base's weights are held; nf4 is QLoRA. Other than none needs a GPU with CUDA."
    )
    epochs: int = Field(default=3, ge=1, le=1000, description="Times that all conversations are seen.")
    batch_size: int = Field(
        default=4, ge=1, le=65_536, description="Conversations that one GPU reads at once; with dpo pairs; with packing rows."
    )
    gradient_accumulation: int = Field(
        default=1, ge=1, le=65_536, description="Batches whose gradients make one step: a larger batch in the same memory."
    )
    learning_rate: float = Field(
        default=0.0, ge=0, le=1, description="The highest; it rises, then falls to 0. 0: 2e-4 with sft, 2e-5 with dpo."
    )
    lora_rank: int = Field(default=16, ge=1, le=1024, description="Rank of the adapter.")
    lora_alpha: int = Field(default=32, ge=1, le=4096, description="Its scale: the update counts alpha / rank.")
    lora_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Share of an adapter's inputs that are left out by chance."
    )
    target_modules: tuple[str, ...] = Field(
        default=(), strict=False, description="Projections with an adapter, such as [q_proj, v_proj]; empty: all of each layer."
    )
    start_adapter: str = Field(
        default="",
        max_length=1000,
        description="Adapter to go on from: artifacts:models/llm/…, a folder, or champion; empty: a new one.",
    )
    max_length: int = Field(default=1024, ge=8, le=1_048_576, description="Tokens of a conversation.")
    too_long: Literal["leave_out", "truncate"] = Field(
        default="leave_out", description="A conversation over max_length is left out, or its end is cut off; both are counted."
    )
    packing: bool = Field(
        default=False, description="Several conversations in a row of max_length, each seeing itself alone; sft only."
    )
    gradient_checkpointing: bool = Field(
        default=True, description="Keep a layer's input alone and compute the layer twice: less memory, a third slower."
    )
    beta: float = Field(default=0.1, gt=0, le=100, description="Of dpo: how strongly the model is held near the base.")
    dev_conversations: int = Field(
        default=200, ge=1, le=100_000, description="Development conversations whose loss is measured; of more, always the same."
    )
    max_tokens: int = Field(
        default=0, ge=0, description="Tokens that are read in training, all attempts together; 0: no limit."
    )
    max_gpu_hours: float = Field(
        default=0.0, ge=0, le=1_000_000, description="GPU-hours (without a GPU, hours) of all attempts together; 0: no limit."
    )
    gpus: int = Field(default=1, ge=1, le=64, description="GPUs that train together, each with a batch of its own.")
    merge_with: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="Adapters to merge the new one with: versions, or champion; empty: it is not merged.",
    )
    merge_methods: tuple[Literal["linear", "cat", "svd", "ties", "dare_linear", "dare_ties"], ...] = Field(
        default=("svd",), strict=False, description="Ways of merging that are tried; the best on the development split is kept."
    )
    merge_weights: tuple[float, ...] = Field(
        default=(0.5,), strict=False, description="Weights of the new adapter that are tried; the others share the rest."
    )
    merge_density: float = Field(default=0.5, gt=0, le=1, description="Share of the values that ties and dare keep.")

    @field_validator("merge_with", mode="before")
    @classmethod
    def _versions(cls, value: Any) -> Any:
        """A command line gives the number of a version, or one name alone."""
        many = value if isinstance(value, list | tuple) else [value]
        return tuple(str(one) if isinstance(one, int) and not isinstance(one, bool) else one for one in many)

    @field_validator("merge_weights")
    @classmethod
    def _shares(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or any(not 0 < weight <= 1 for weight in value) or len(set(value)) != len(value):
            raise ValueError("weights are above 0 and at most 1, each once")
        return value

    @field_validator("target_modules", "merge_with", "merge_methods")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not name.strip() for name in value) or len(set(value)) != len(value):
            raise ValueError("names are not empty, each once")
        return value

    @model_validator(mode="after")
    def _together(self) -> LlmArguments:
        if self.method == "dpo" and self.packing:
            raise ValueError("packing is of sft alone: with dpo the two answers of a pair stand side by side")
        if self.merge_with and not self.merge_methods:
            raise ValueError("merge_with needs a method in merge_methods")
        return self

    @property
    def step_size(self) -> int:
        """Conversations in a step, on all GPUs."""
        return self.batch_size * self.gradient_accumulation * self.gpus

    @property
    def highest_rate(self) -> float:
        """The learning rate after its rise, whether it was given or not."""
        return self.learning_rate or (2e-4 if self.method == "sft" else 2e-5)


ARGUMENTS: dict[str, type[TrainingArguments]] = {
    "reranker": RerankerArguments,
    "embedder": EmbedderArguments,
    "llm": LlmArguments,
}


def arguments_of(family: str, values: Mapping[str, Any]) -> TrainingArguments:
    """The arguments that a row holds.

    :raises BadConfiguration: no such family, or a field is impossible.
    """
    if family not in ARGUMENTS:
        raise BadConfiguration(f"family {family!r}", "it is not trained here", f"Use one of {', '.join(ARGUMENTS)}")
    return checked(ARGUMENTS[family], values)


def checked(model: type[Model], values: Mapping[str, Any]) -> Model:
    """``values`` as a frozen model.

    :raises BadConfiguration: each wrong field by name, and what would be right.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        problems = "; ".join(_explain(model, dict(one)) for one in error.errors())
        raise BadConfiguration(f"arguments of the {_shown(model)}", problems, "See docs/training.md for each") from None


def _shown(model: type[BaseModel]) -> str:
    return model.__name__.removesuffix("Arguments").removesuffix("Options").lower()


def _explain(model: type[BaseModel], error: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in error["loc"]) or "together"
    if error["type"] == "extra_forbidden":
        close = difflib.get_close_matches(key, list(model.model_fields), n=1)
        return f"{key}: unknown" + (f", perhaps {close[0]} is meant" if close else "")
    got = error.get("input")
    value = f" (got {got!r})" if isinstance(got, str | int | float | bool | type(None)) else ""
    return f"{key}: {error['msg'].removeprefix('Value error, ')}{value}"

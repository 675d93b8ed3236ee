"""Section `training`: when a trained model takes the place of the one that serves."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from include.collection_file.indexing import Embedding  # noqa: TC001 - pydantic reads it
from include.collection_file.section import Section
from include.errors import BadConfiguration


class Training(Section):
    """When a trained model takes the place of the one that serves.

    :param promotion: a model that won goes live by itself (`auto`), after a person's click (`approve`), or only by
        `ragworks promote` (`never`).
    :param min_queries: golden queries below which nothing is decided.
    :param min_effect: smallest gain of nDCG@10 that is worth a change.
    :param max_slice_loss: most that any slice of the golden queries may lose, when it surely loses.
    :param answer_budget_ms: what 95 of 100 answers of a trained language model must be written within where it is judged.
    :param clients: questions asked at once when latency is measured; 95 of 100 must stay within `retrieval.latency_budget_ms`.
    :param latency_device: where the models of searches run when latency is measured: on what they run when users ask.
    :param approval_hours: how long a decision waits for a person; then it is a no.
    :param alternatives: other embedders to score beside a trained one, each as a section `embedding`.
    :param llm_base: language model whose adapters are trained: a folder, or a name on the hub; empty: none is named.
    :param arguments: by family, how it is trained where nobody says otherwise: by events, by cron, and on the command line.
    """

    promotion: Literal["auto", "approve", "never"] = "approve"
    min_queries: int = Field(default=50, ge=20)
    min_effect: float = Field(default=0.005, ge=0, le=1)
    max_slice_loss: float = Field(default=0.05, ge=0, le=1)
    answer_budget_ms: float = Field(default=60_000, gt=0)
    clients: int = Field(default=4, ge=1, le=64)
    latency_device: Literal["cpu", "cuda"] = "cpu"
    approval_hours: float = Field(default=72, gt=0, le=24 * 90)
    alternatives: tuple[Embedding, ...] = Field(default=(), strict=False)
    llm_base: str = Field(default="", max_length=1000)
    arguments: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @field_validator("arguments")
    @classmethod
    def _arguments_are_possible(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        from include.training.arguments import arguments_of

        for family, given in value.items():
            try:
                arguments_of(family, given)
            except BadConfiguration as error:
                raise ValueError(f"{family}: {error.why}") from None
        return value
